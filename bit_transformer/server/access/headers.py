"""Security headers of every response.

They follow the OWASP Secure Headers Project. The server passes them to uvicorn, which adds them to
each response, also to errors of the protocol that never reach the application.
"""

_LOAD_NOTHING = (
    "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; sandbox"
)

COMMON: tuple[tuple[str, str], ...] = (
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    # With "no-referrer", browsers send `Origin: null` for forms of the dashboard's own pages, and
    # the check of the Origin header would refuse them.
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
DATA_POLICY = ("Content-Security-Policy", _LOAD_NOTHING)
"""For a server without pages. If a browser shows a response anyway, the document cannot load or run
anything and has no origin."""
NO_FRAMES = (
    "Content-Security-Policy",
    "base-uri 'none'; frame-ancestors 'none'; object-src 'none'",
)
"""For a server with pages. Browsers enforce all policies of a response, so the policy of a page can
only add restrictions."""


def page_policy(nonce: str) -> str:
    """Return the policy of a dashboard page: its own resources, and scripts that carry the nonce.

    NiceGUI evaluates code that the server sends, and it styles elements through attributes. Both
    must be allowed.
    """
    return (
        f"default-src 'none'; script-src 'self' 'nonce-{nonce}' 'unsafe-eval'; "
        "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self'; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )


def data_policy() -> str:
    """Return the policy of all other dashboard documents: they may load nothing."""
    return _LOAD_NOTHING
