"""Headers that stand on every answer, whoever gives it: the application, its errors, the protocol.

They follow the list of the OWASP Secure Headers Project. A server hands them to uvicorn, which puts
them before those of the application, so that an answer that never reached the application has
them too.
"""

_NOTHING = (
    "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; sandbox"
)

COMMON: tuple[tuple[str, str], ...] = (
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    # The browser tells its own pages where a form was sent from; without that the check of the
    # Origin header would refuse them.
    ("Referrer-Policy", "same-origin"),
    (
        "Permissions-Policy",
        "accelerometer=(), camera=(), display-capture=(), geolocation=(), gyroscope=(), "
        "magnetometer=(), microphone=(), midi=(), payment=(), usb=()",
    ),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Embedder-Policy", "require-corp"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("X-Permitted-Cross-Domain-Policies", "none"),
)
DOCUMENTS_ARE_DATA = ("Content-Security-Policy", _NOTHING)
"""For whoever serves no pages: a document that a browser shows all the same can load and run
nothing, and has no origin."""
NO_FRAMES = (
    "Content-Security-Policy",
    "base-uri 'none'; frame-ancestors 'none'; object-src 'none'",
)
"""For whoever serves pages. Several policies hold together, so a page's own may only add to it."""


def page_policy(nonce: str) -> str:
    """What a page of the dashboard may load: itself, and scripts that carry the nonce.

    NiceGUI evaluates what the server sends it and styles elements with attributes; both have to be
    allowed.
    """
    return (
        f"default-src 'none'; script-src 'self' 'nonce-{nonce}' 'unsafe-eval'; "
        "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self'; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )


def data_policy() -> str:
    """What any other document of the dashboard may do: nothing."""
    return _NOTHING
