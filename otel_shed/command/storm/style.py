"""How the page looks: its style sheet, with the colours of light and dark in one place each.

Whole is blue and torn is orange, which people with any kind of colour vision tell apart.
"""

from __future__ import annotations

STYLE = """
:root {
  color-scheme: light dark;
  --paper: #fbfaf8; --ink: #1d2228; --faint: #69727d; --hair: #dcdad5; --card: #ffffff;
  --whole: #2563b8; --torn: #d97f1e; --lost: #a4a9b0; --guess: #8fb4e3; --true: #1d2228;
  --accepted: #9dbfe8; --offered: #69727d; --storm: #1d22280d;
  --longest: #d97f1e; --p99: #2563b8; --median: #7fa8dc; --memory: #b9cde6;
  --normal: #cfe3d2; --observe: #f2e3a8; --degrade: #f3bd80; --shed_optional: #e58e76; --recovery: #b9d4ee;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14171b; --ink: #e6e4df; --faint: #98a1ac; --hair: #2e343b; --card: #1b1f25;
    --whole: #6ea8f0; --torn: #f0a04b; --lost: #626a74; --guess: #3c6aa5; --true: #e6e4df;
    --accepted: #3c6aa5; --offered: #98a1ac; --storm: #e6e4df12;
    --longest: #f0a04b; --p99: #6ea8f0; --median: #4678b6; --memory: #3b5273;
    --normal: #2f5237; --observe: #6a5c1d; --degrade: #87561f; --shed_optional: #8a3f2c; --recovery: #2d5278;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif;
  font-variant-numeric: tabular-nums;
}
main { max-width: 1180px; margin: 0 auto; padding: 3.5rem 1.5rem 5rem; }
h1 { font-size: 2.4rem; line-height: 1.15; letter-spacing: -.02em; margin: 0 0 .6rem; font-weight: 650; }
h2 { font-size: 1.2rem; letter-spacing: -.005em; margin: 0 0 .15rem; font-weight: 620; }
p { margin: 0 0 .5rem; max-width: 60rem; }
.lead { font-size: 1.1rem; color: var(--faint); }
section { margin-top: 3.2rem; }
section > p { color: var(--faint); }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 15rem), 1fr)); gap: .8rem;
  margin: 2rem 0 .6rem; }
.cards > div { background: var(--card); border: 1px solid var(--hair); border-radius: 10px; padding: 1rem 1.15rem; }
.cards dt { color: var(--faint); font-size: .87rem; line-height: 1.35; min-height: 2.4rem; }
.cards dd { margin: .3rem 0 0; display: flex; align-items: baseline; gap: .5rem; white-space: nowrap; }
.cards dd span { font-size: .87rem; min-width: 4.6rem; }
.cards dd b { font-size: 1.5rem; font-weight: 400; letter-spacing: -.02em; line-height: 1.2; }
.cards dd.better b { font-weight: 680; }
.better { color: var(--whole); } .worse { color: var(--torn); }
.key { font-size: .87rem; color: var(--faint); }
.key span { font-weight: 600; }
.notes { display: grid; grid-template-columns: max-content 1fr; gap: .3rem 1rem; margin: .9rem 0 0; max-width: 60rem;
  font-size: .87rem; color: var(--faint); }
.notes dt { font-weight: 600; color: var(--ink); } .notes dd { margin: 0; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); gap: 1rem 2rem; }
figure { margin: 0; min-width: 0; }
figcaption { font-size: .87rem; font-weight: 600; margin-bottom: .1rem; }
svg { display: block; width: 100%; height: auto; }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; font-size: .87rem; margin-bottom: .7rem; }
.legend span { display: inline-flex; align-items: center; gap: .45rem; }
.legend i { width: .8rem; height: .8rem; border-radius: 3px; }
table { border-collapse: collapse; margin-top: .8rem; width: 100%; max-width: 46rem; }
th, td { padding: .38rem .2rem; border-bottom: 1px solid var(--hair); text-align: right; font-weight: 400; }
th[scope=row], th[scope=rowgroup] { text-align: left; }
th[scope=rowgroup] { padding-top: 1.2rem; font-weight: 600; color: var(--faint); }
thead th { font-weight: 600; }
td { white-space: nowrap; padding-left: 1.5rem; }
ul { margin: .6rem 0 0; padding-left: 1.1rem; max-width: 46rem; color: var(--faint); }
li { margin-bottom: .35rem; }
code { font: .92em ui-monospace, "SF Mono", Menlo, Consolas, monospace; }
svg text { font-size: 11px; fill: var(--faint); }
.tick.y, .rule-label { text-anchor: end; }
.tick.x, .band-label { text-anchor: middle; }
.rule-label, svg .band-label { fill: var(--ink); }
.grid { stroke: var(--hair); stroke-width: 1; }
.rule { stroke: var(--ink); stroke-width: 1; stroke-dasharray: 2 3; }
.line { fill: none; stroke-width: 1.8; stroke-linejoin: round; stroke-linecap: round; }
rect.storm { fill: var(--storm); } rect.calm, rect.uncounted { fill: none; }
rect.veil { fill: var(--paper); opacity: .62; }
.line.offered { stroke: var(--offered); } .line.true { stroke: var(--true); stroke-width: 1.4; }
.line.longest { stroke: var(--longest); stroke-width: 1.2; } .line.p99 { stroke: var(--p99); }
.line.median { stroke: var(--median); }
.accepted { fill: var(--accepted); } .memory { fill: var(--memory); }
.whole { fill: var(--whole); } .torn { fill: var(--torn); } .lost { fill: var(--lost); } .guess { fill: var(--guess); }
i.offered { background: var(--offered); } i.accepted { background: var(--accepted); }
i.whole { background: var(--whole); } i.torn { background: var(--torn); } i.lost { background: var(--lost); }
i.guess { background: var(--guess); } i.true { background: var(--true); } i.longest { background: var(--longest); }
i.p99 { background: var(--p99); } i.median { background: var(--median); } i.memory { background: var(--memory); }
.normal { --phase: var(--normal); } .observe { --phase: var(--observe); } .degrade { --phase: var(--degrade); }
.shed_optional { --phase: var(--shed_optional); } .recovery { --phase: var(--recovery); }
rect.phase { fill: var(--phase); } i.phase { background: var(--phase); }
@media (max-width: 40rem) { svg { overflow: visible; } svg text { font-size: 14px; } }
@media print { section { break-inside: avoid; } }
"""
