"""Colours and CSS of the dashboard."""

from nicegui import ui

CSS = """
:root{--bt-bg:#f5f7fb;--bt-surface:#fff;--bt-line:#dfe4ec;--bt-text:#182233;--bt-muted:#566174;
--bt-accent:#4f46e5;--bt-accent-soft:#eef0ff;--bt-good:#0f766e;--bt-warn:#b45309;--bt-bad:#be123c;
--bt-heat:245,158,11;--bt-mono:ui-monospace,"SF Mono",Menlo,"DejaVu Sans Mono",monospace}
body.body--dark{--bt-bg:#0d1320;--bt-surface:#151c2b;--bt-line:#273144;--bt-text:#e6ebf4;
--bt-muted:#a3afc2;--bt-accent:#9aa2ff;--bt-accent-soft:#20274a;--bt-good:#2dd4bf;--bt-warn:#fbbf24;
--bt-bad:#fb7185;--bt-heat:245,158,11}
body{background:var(--bt-bg)!important;color:var(--bt-text)}
.nicegui-content{padding:0;gap:0;width:100%}
.q-tab-panel,.nicegui-tab-panel{padding:0!important}
.q-uploader{background:transparent;max-height:260px;box-shadow:none}
.q-uploader__header{background:var(--bt-accent-soft);color:var(--bt-text)}
.q-uploader__list:empty,.q-uploader__list:has(>:not(.q-uploader__file):only-child){padding:0;min-height:0}
.q-btn .q-icon{font-size:1.25em}
.body--dark .q-btn--outline,.body--dark .q-btn--flat,.body--dark .q-icon{--q-primary:#9aa2ff;
--q-negative:#fb7185}
.bt-banner .q-icon,.bt-banner .q-btn{--q-primary:#fff}
.q-notification__actions{color:#fff}
.bt-tabs .q-icon{font-size:20px}
.bt-header{background:var(--bt-surface)!important;color:var(--bt-text)!important;
border-bottom:1px solid var(--bt-line);padding:0 16px;min-height:56px;display:flex;flex-wrap:wrap;
align-items:center;gap:4px 16px;box-shadow:none!important}
.bt-brand{font-weight:700;font-size:1.05rem;letter-spacing:-.01em;display:flex;align-items:center;
gap:8px}
.bt-tabs .q-tab{min-height:56px;padding:0 12px}
.bt-tabs .q-tab__label{font-size:.9rem}
.bt-tabs .q-tab--active{color:var(--bt-accent)}
.bt-main{width:100%;max-width:1320px;margin:0 auto;padding:16px;gap:16px}
.bt-card{background:var(--bt-surface);border:1px solid var(--bt-line);border-radius:12px;
padding:16px;width:100%;gap:12px;min-width:0}
.bt-title{font-size:1.05rem;font-weight:650;line-height:1.3;margin:0}
.bt-muted,.bt-help{color:var(--bt-muted)}
.bt-help{font-size:.78rem;line-height:1.35;margin-top:2px}
.bt-field{gap:2px;min-width:0;width:100%}
.bt-field>.q-field{width:100%;padding-bottom:0}
.bt-grid{display:grid;width:100%;gap:14px 18px;
grid-template-columns:repeat(auto-fill,minmax(min(100%,210px),1fr));align-items:start}
.bt-three{grid-template-columns:repeat(auto-fill,minmax(min(100%,320px),1fr))}
.bt-charts{display:grid;width:100%;gap:16px;
grid-template-columns:repeat(auto-fit,minmax(min(100%,420px),1fr))}
.bt-chart{height:230px;width:100%}
.bt-kpis{display:grid;width:100%;gap:10px;grid-template-columns:repeat(auto-fit,minmax(102px,1fr))}
.bt-kpi{background:var(--bt-surface);border:1px solid var(--bt-line);border-radius:12px;
padding:10px 12px;gap:0;min-width:0}
.bt-kpi-name{font-size:.75rem;color:var(--bt-muted);white-space:nowrap}
.bt-kpi-value{font-size:1.2rem;font-weight:650;font-variant-numeric:tabular-nums;
white-space:nowrap}
.bt-low .bt-kpi-value{color:var(--bt-bad)}
.bt-alert{color:var(--bt-bad);font-weight:500;overflow-wrap:anywhere}
.bt-error{font-size:.8rem}
.bt-invalid .q-field__control:before{border-color:var(--bt-bad)!important}
.bt-banner{background:#7f1d1d;color:#fff;padding:10px 16px;width:100%;gap:12px;flex-wrap:nowrap;
align-items:center}
.bt-job{width:100%;gap:6px 12px;align-items:center;flex-wrap:wrap}
.bt-split{display:grid;width:100%;gap:16px;grid-template-columns:300px minmax(0,1fr);
align-items:start}
.bt-run{width:100%;text-align:left;border:1px solid transparent;border-radius:10px;padding:8px 10px;
background:transparent;color:inherit;cursor:pointer;display:flex;flex-direction:column;gap:4px;
font:inherit}
.bt-run:hover{background:var(--bt-accent-soft)}
.bt-run[aria-pressed=true]{background:var(--bt-accent-soft);border-color:var(--bt-accent)}
.bt-run-name{font-weight:600;overflow-wrap:anywhere;line-height:1.25}
.bt-bar{height:4px;border-radius:2px;background:var(--bt-line);overflow:hidden;width:100%}
.bt-bar>div{height:100%;background:var(--bt-accent);border-radius:2px}
.bt-scroll{max-height:calc(100vh - 180px);overflow-y:auto;gap:4px;width:100%}
.bt-mono{font-family:var(--bt-mono);font-size:.84rem;white-space:pre-wrap;overflow-wrap:anywhere;
line-height:1.5}
.bt-sample{border-left:3px solid var(--bt-line);padding:2px 0 2px 12px;width:100%;gap:2px}
.bt-sample:first-child{border-color:var(--bt-accent)}
.bt-inspector{font-family:var(--bt-mono);font-size:.95rem;line-height:1.75;width:100%;min-height:3rem;
overflow-wrap:anywhere;max-height:340px;overflow-y:auto}
.bt-inspector .bt-prompt{color:var(--bt-muted)}
.bt-inspector [data-i]{padding:1px 0;cursor:pointer;border-radius:3px;white-space:pre-wrap;
background:rgba(var(--bt-heat),var(--h,0))}
.bt-inspector [data-i]:hover{outline:1px solid var(--bt-muted)}
.bt-inspector [data-i][aria-pressed=true]{outline:2px solid var(--bt-accent);outline-offset:0}
.bt-bytes{display:flex;flex-wrap:wrap;gap:4px 10px}
.bt-byte{display:flex;align-items:center;gap:2px;font-size:.78rem}
.bt-byte b{font-family:var(--bt-mono);width:24px;text-align:center}
.bt-byte i{width:11px;height:16px;border-radius:2px;border:1px solid var(--bt-line);
background:rgba(var(--bt-heat),var(--h,0))}
.bt-byte span{width:28px;text-align:right;color:var(--bt-muted);font-variant-numeric:tabular-nums}
.bt-wide-left{grid-template-columns:minmax(300px,5fr) minmax(0,7fr)}
.bt-halves{grid-template-columns:repeat(auto-fit,minmax(min(100%,380px),1fr))}
.bt-file{border-bottom:1px solid var(--bt-line);padding:4px 0;gap:8px}
.bt-sticky{position:sticky;bottom:0;z-index:5;box-shadow:0 -6px 18px rgba(0,0,0,.06)}
.bt-chip{font-size:.75rem;padding:2px 8px;border-radius:999px;border:1px solid var(--bt-line);
color:var(--bt-muted);white-space:nowrap}
.bt-chip.good{color:var(--bt-good);border-color:currentColor}
.bt-chip.bad{color:var(--bt-bad);border-color:currentColor}
.bt-chip.warn{color:var(--bt-warn);border-color:currentColor}
.bt-chip.on{color:var(--bt-accent);border-color:currentColor}
.bt-table{width:100%;border-collapse:collapse;font-size:.88rem}
.bt-table th{text-align:left;font-weight:600;color:var(--bt-muted);font-size:.78rem}
.bt-table th,.bt-table td{padding:5px 12px 5px 0;border-bottom:1px solid var(--bt-line);
overflow-wrap:anywhere}
.bt-empty{padding:28px 12px;text-align:center;color:var(--bt-muted);width:100%;align-items:center;
gap:8px}
.bt-actions{gap:8px;align-items:center;flex-wrap:wrap}
.q-expansion-item{border:1px solid var(--bt-line);border-radius:10px;width:100%}
.q-expansion-item .q-item{border-radius:10px}
:focus-visible{outline:2px solid var(--bt-accent)!important;outline-offset:2px}
.bt-skip{position:absolute;left:-999px;top:8px;z-index:9999;background:var(--bt-surface);
padding:8px 12px;border-radius:8px}
.bt-skip:focus{left:8px}
@media(max-width:860px){.bt-head .q-space{display:none}
.bt-split,.bt-wide-left{grid-template-columns:minmax(0,1fr)}
.bt-scroll{max-height:260px}.bt-main{padding:12px}
.bt-header{padding:0 8px}.bt-tabs{order:9;width:100%}.bt-tabs .q-tab{min-height:44px;padding:0 8px}
.bt-tabs .q-tab__icon{display:none}
.bt-kpi-value{font-size:1.1rem}.bt-kpis{grid-template-columns:repeat(auto-fit,minmax(96px,1fr))}}
@media(prefers-reduced-motion:reduce){*{transition:none!important;animation:none!important}}
"""

LOGO = """<svg width="26" height="26" viewBox="0 0 26 26" aria-hidden="true"><g fill="none"
stroke="currentColor" stroke-width="2" stroke-linecap="round"><path d="M4 13 L12 7 L21 4"
stroke="var(--bt-accent)"/><path d="M12 7 L21 10 M4 13 L12 19 L21 16 M12 19 L21 22"
opacity=".45"/></g><circle cx="4" cy="13" r="3" fill="var(--bt-accent)"/></svg>"""


def apply() -> None:
    """Add the CSS and colours to the page that is being built."""
    ui.add_css(CSS)
    ui.colors(
        primary="#5b54e8", positive="#0f766e", negative="#be123c", warning="#b45309", dark="#151c2b"
    )
