"""How the HTML report looks: one style sheet, every rule below ``.lcr-report``, so that a notebook is left alone.

Jupyter styles tables and drawings in its outputs by two classes: rules that it would overrule double ours.
"""

from __future__ import annotations

from typing import Final

# Colours: Okabe & Ito, "Color Universal Design" (2008): blue, vermilion and orange stay apart for every reader; state
# and critical path are also told in words and by an outline, never by colour alone.
LIGHT: Final = (
    "--bg:#ffffff;--card:#f6f7f9;--text:#1b1f24;--dim:#5b6470;--line:#d9dde3;--task:#7fb2dc;--crit:#0b5c97;"
    "--bad:#c8401f;--open:#b9c0c9;--held:#e0a33a;--on-task:#0c2a42;--on-dark:#ffffff;--ok:#1c7a4d"
)
_DARK: Final = (
    "--bg:#14171b;--card:#1e2329;--text:#e6e9ed;--dim:#9aa4b0;--line:#343b44;--task:#3d6f99;--crit:#8fcbff;"
    "--bad:#ff7f5c;--open:#59626d;--held:#e8b356;--on-task:#eaf4fc;--on-dark:#0d1a26;--ok:#5fc794"
)

STYLE: Final = (
    ".lcr-report{color-scheme:light dark;"
    + LIGHT
    + "}@media (prefers-color-scheme:dark){.lcr-report{"
    + _DARK
    + """}}
.lcr-report{container-type:inline-size;background:var(--bg);color:var(--text);max-width:1160px;margin:0 auto;
padding:20px;box-sizing:border-box;font:14px/1.45 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
.lcr-report *{box-sizing:border-box}
.lcr-report.lcr-report h1{font-size:20px;margin:0 0 14px;font-weight:600;overflow-wrap:anywhere}
.lcr-report.lcr-report h2{font-size:15px;margin:28px 0 8px;font-weight:600}
.lcr-report p{margin:4px 0}
.lcr-report .dim{color:var(--dim);fill:var(--dim)}
.lcr-report .badge{display:inline-block;margin-left:8px;padding:1px 9px;border-radius:10px;font-size:12px;
border:1px solid currentColor;vertical-align:2px;white-space:nowrap;font-weight:500}
.lcr-report .s-completed{color:var(--ok)}
.lcr-report .s-failed,.lcr-report .s-aborted{color:var(--bad)}
.lcr-report .s-skipped,.lcr-report .s-pending,.lcr-report .s-ready,.lcr-report .s-running{color:var(--dim)}
.lcr-report .tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:8px}
.lcr-report .tile{background:var(--card);border-radius:8px;padding:10px 12px;min-width:0}
.lcr-report .tile b{display:block;font-size:17px;font-weight:600;overflow-wrap:anywhere}
.lcr-report .tile span{font-size:12px;color:var(--dim)}
.lcr-report .bar{display:flex;height:12px;margin:14px 0 4px;border-radius:6px;overflow:hidden;background:var(--line)}
.lcr-report .bar i{display:block}
.lcr-report .gantt{display:flex;gap:8px}
.lcr-report .gantt>div{flex:1;min-width:0}
.lcr-report .gantt>.names{flex:0 0 190px}
.lcr-report svg{display:block;overflow:visible;font-size:11px}
.lcr-report .names svg{overflow:hidden;font-size:12px}
.lcr-report svg text{fill:var(--text);white-space:pre}
.lcr-report svg text.dim{fill:var(--dim);paint-order:stroke;stroke:var(--bg);stroke-width:3px}
.lcr-report svg .crit-label{font-weight:700}
.lcr-report svg .completed{fill:var(--task)}
.lcr-report svg .completed.crit{fill:var(--crit)}
.lcr-report svg .failed{fill:var(--bad)}
.lcr-report svg .unfinished{fill:var(--open)}
.lcr-report svg .crit{stroke:var(--crit);stroke-width:2}
.lcr-report svg text.inside{fill:var(--on-task)}
.lcr-report svg text.inside-crit{fill:var(--on-dark)}
.lcr-report svg .grid{stroke:var(--line);stroke-width:1}
.lcr-report svg .link{stroke:var(--crit);stroke-width:1}
.lcr-report svg .wait{stroke:var(--crit);stroke-width:1;stroke-dasharray:2 3}
.lcr-report svg .pause{stroke:var(--held);stroke-width:3;stroke-dasharray:4 3}
.lcr-report svg .load{fill:var(--task)}
.lcr-report svg .box{fill:var(--card);stroke:var(--line);stroke-width:1}
.lcr-report svg .box.crit{stroke:var(--crit);stroke-width:2}
.lcr-report svg .box-name{font-size:12px;font-weight:600}
.lcr-report svg .box-name+.dim{stroke:none}
.lcr-report svg .mark{fill:var(--open)}
.lcr-report svg .m-completed{fill:var(--ok)}
.lcr-report svg .m-failed{fill:var(--bad)}
.lcr-report svg .m-running{fill:var(--held)}
.lcr-report svg .edge{fill:none;stroke:var(--open);stroke-width:1}
.lcr-report svg .crit-edge{stroke:var(--crit);stroke-width:2}
.lcr-report svg .block{stroke:none}
.lcr-report svg .block.crit{fill:var(--crit)}
.lcr-report svg .spend-area{fill:var(--task);opacity:.3}
.lcr-report svg .spend-line{fill:none;stroke:var(--crit);stroke-width:2}
.lcr-report svg .limit{stroke:var(--bad);stroke-width:1.5;stroke-dasharray:5 4}
.lcr-report .legend{display:flex;flex-wrap:wrap;gap:4px 16px;font-size:12px;color:var(--dim);margin-top:6px}
.lcr-report .legend i{display:inline-block;width:14px;height:10px;border-radius:2px;margin-right:5px}
.lcr-report .scroll{overflow-x:auto}
.lcr-report.lcr-report tbody tr{background:none}
.lcr-report.lcr-report table{border-collapse:collapse;table-layout:auto;width:100%;font-size:13px;
font-variant-numeric:tabular-nums;margin:0}
.lcr-report.lcr-report th,.lcr-report.lcr-report td{text-align:left;padding:4px 12px 4px 0;
border-bottom:1px solid var(--line);vertical-align:top;background:none;color:inherit}
.lcr-report.lcr-report td{overflow-wrap:anywhere;min-width:10ch}
.lcr-report.lcr-report th{font-weight:500;color:var(--dim);white-space:nowrap}
.lcr-report.lcr-report td.n,.lcr-report.lcr-report th.n{text-align:right;white-space:pre;overflow-wrap:normal;
min-width:0}
.lcr-report.lcr-report td:first-child{min-width:110px}
.lcr-report.lcr-report td .crit{font-weight:700}
.lcr-report.lcr-report td .one-state{white-space:nowrap}
.lcr-report.lcr-report .incidents table{table-layout:fixed}
.lcr-report .incidents th:first-child{width:65%}
.lcr-report details{max-width:560px}
.lcr-report summary{cursor:pointer;overflow-wrap:anywhere}
.lcr-report pre{white-space:pre-wrap;overflow-wrap:anywhere;background:var(--card);color:inherit;padding:8px 10px;
border-radius:6px;font-size:12px;margin:6px 0}
@container (max-width:620px){
.lcr-report .gantt>.names{flex-basis:104px}
.lcr-report .wide{display:none}
.lcr-report .tiles{grid-template-columns:repeat(2,1fr)}
.lcr-report.lcr-report th,.lcr-report.lcr-report td{padding-right:8px}
}
"""
)

PAGE_STYLE: Final = (
    "html{color-scheme:light dark}body{margin:0}@media (prefers-color-scheme:dark){body{background:#14171b}}"
)
"""For the page around the report, where it stands alone."""
