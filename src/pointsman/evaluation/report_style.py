"""The report's style sheet: light, dark and on paper."""

STYLE = """
:root { color-scheme: light dark; --ink: #1a2230; --soft: #5b6575; --line: #e1e5ea; --card: #fff;
  --ground: #f5f7f9; --accent: #b84a00; --good: #14713d; --bad: #b3261e; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8ebf0; --soft: #a3adba; --line: #343c48; --card: #1c222b; --ground: #12161c;
    --accent: #ff9d5c; --good: #63d297; --bad: #ff8a80; }
  figure img { filter: invert(1) hue-rotate(180deg) brightness(1.12); mix-blend-mode: screen; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1180px; padding: 2.2rem 1.2rem 3rem; background: var(--ground);
  color: var(--ink); font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
.kind { margin: 0; font-size: .82rem; letter-spacing: .08em; text-transform: uppercase;
  color: var(--accent); font-weight: 600; }
h1 { margin: .1rem 0 .4rem; font-size: 2.3rem; line-height: 1.15; font-weight: 700;
  letter-spacing: -.01em; }
h1.pays { color: var(--good); }
h1.loses { color: var(--bad); }
.lead { font-size: 1.12rem; max-width: 62rem; }
.lead p { margin: 0 0 .35rem; text-wrap: pretty; }
.about, .note, figcaption, .small { color: var(--soft); font-size: .88rem; }
.about { margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .7rem; }
.note { margin: .4rem 0 .8rem; max-width: 60rem; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(148px, 1fr)); gap: .7rem;
  margin: 1.5rem 0 0; }
.tiles div, figure, article, .table { background: var(--card); border: 1px solid var(--line);
  border-radius: 10px; }
.tiles div { padding: .7rem .85rem .75rem; }
dt { font-size: .84rem; color: var(--soft); }
dd { margin: 0; font-size: 1.55rem; font-weight: 650; line-height: 1.25;
  font-variant-numeric: tabular-nums; }
dd small { display: block; font-size: .78rem; font-weight: 400; color: var(--soft);
  line-height: 1.35; margin-top: .15rem; }
.pictures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 440px), 1fr));
  gap: .9rem; }
.pictures figure:last-child:nth-child(odd) { grid-column: 1 / -1; }
figure { margin: 0; padding: .9rem; display: flex; flex-direction: column;
  justify-content: space-between; gap: .6rem; }
figure img { display: block; width: 100%; max-height: 420px; object-fit: contain; }
figure.wide { margin-bottom: .9rem; }
figure.wide img { max-width: 760px; margin: 0 auto; }
.table { overflow-x: auto; margin-bottom: .9rem; }
table { border-collapse: collapse; width: 100%; font-size: .92rem;
  font-variant-numeric: tabular-nums; }
th, td { padding: .45rem .85rem; text-align: right; border-top: 1px solid var(--line); }
thead th { border-top: 0; color: var(--soft); font-weight: 500; font-size: .84rem;
  vertical-align: bottom; }
th:first-child { text-align: left; }
td { white-space: nowrap; }
tbody th { font-weight: 500; overflow-wrap: anywhere; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 300px), 1fr));
  gap: .9rem; }
article { overflow: hidden; padding-bottom: .75rem; }
article img { display: block; width: 100%; border-bottom: 1px solid var(--line); }
.missing { margin: 0; padding: 3rem 0; text-align: center; color: var(--soft);
  border-bottom: 1px solid var(--line); }
h3 { margin: .65rem .85rem .3rem; font-size: .98rem; line-height: 1.35; overflow-wrap: anywhere; }
article p:not(.missing) { margin: .2rem .85rem; font-size: .9rem; overflow-wrap: anywhere; }
.badge { color: var(--accent); }
@media print {
  :root { color-scheme: light; --ink: #000; --soft: #444; --line: #ccc; --card: #fff;
    --ground: #fff; --accent: #8a3800; --good: #0b5a2e; --bad: #8f1d17; }
  body { padding: 0; font-size: 10pt; max-width: none; }
  .pictures { grid-template-columns: 1fr 1fr; }
  .cards { grid-template-columns: 1fr 1fr 1fr; }
  figure img { max-height: 300px; }
  figure img { filter: none; mix-blend-mode: normal; }
  figure, article, .tiles div, tr { break-inside: avoid; }
  h2, .note { break-after: avoid; }
}
"""
