"""The style sheet of the page: one column on a phone, two of figures on a screen, black on white in print."""

STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }
body { margin: 0; background: #fff; color: #1b1f24; font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
header, nav, main, footer { max-width: 66rem; margin: 0 auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 1.2rem 0 0.4rem; }
h2 { font-size: 1.3rem; margin: 2.4rem 0 0.6rem; border-bottom: 2px solid #1b1f24; }
h3 { font-size: 1.05rem; margin: 1.6rem 0 0.4rem; }
p, ul { max-width: 46rem; margin: 0.5rem 0; }
ul { padding-left: 1.3rem; }
a { color: #0b4f8a; }
a:focus-visible { outline: 3px solid #0b4f8a; outline-offset: 2px; }
nav ul { list-style: none; padding: 0; display: flex; flex-wrap: wrap; gap: 0.2rem 1rem; max-width: none; }
nav a { display: inline-block; padding: 0.3rem 0; }
.skip { position: absolute; left: -999rem; }
.skip:focus { left: 1rem; top: 0.5rem; background: #fff; }
.verdict { border: 2px solid #1b1f24; border-radius: 0.4rem; padding: 0.6rem 1rem; margin: 1rem 0; }
.verdict p:first-child { font-size: 1.25rem; font-weight: 700; margin: 0.2rem 0; }
.findings { list-style: none; padding: 0; }
.findings li { margin: 0.5rem 0; padding-left: 0.8rem; border-left: 3px solid #7a818a; }
.findings .caution { border-left: 3px dashed #1b1f24; }
.findings .problem { border-left: 6px double #1b1f24; }
.muted { color: #4a515a; font-size: 0.9rem; }
table { border-collapse: collapse; width: 100%; max-width: 46rem; margin: 1rem 0; font-size: 0.9rem;
  line-height: 1.35; }
caption { text-align: left; font-weight: 600; padding: 0.2rem 0; }
th, td { padding: 0.25rem 0.4rem; border-bottom: 1px solid #b4bac2; text-align: right; vertical-align: top;
  font-variant-numeric: tabular-nums; }
th:first-child { text-align: left; padding-left: 0; }
tbody th { font-weight: 400; }
thead th { border-bottom: 2px solid #1b1f24; overflow-wrap: normal; }
td { overflow-wrap: normal; }
.unit { white-space: nowrap; }
.facts table { table-layout: fixed; }
.facts td, .facts th { text-align: left; overflow-wrap: break-word; }
.facts th:first-child { width: 28%; padding-right: 0.6rem; hyphens: auto; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); gap: 1rem 2rem; }
figure { margin: 0.5rem 0; break-inside: avoid; }
figure img, figure svg { display: block; width: 100%; height: auto; max-width: 40rem; }
figcaption { font-size: 0.9rem; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: #f3f4f6; padding: 0.6rem 0.8rem; margin: 0.6rem 0;
  font: 0.82rem/1.45 ui-monospace, monospace; max-width: 60rem; }
footer { margin-top: 3rem; padding-bottom: 2rem; }
@media (max-width: 30rem) {
  table { font-size: 0.8rem; }
  th, td { padding: 0.25rem 0.25rem; }
}
@media print {
  @page { margin: 15mm; }
  body { font-size: 10pt; }
  nav, .skip { display: none; }
  header, main, footer { max-width: none; padding: 0; }
  h2, h3, caption { break-after: avoid; }
  tr { break-inside: avoid; }
  p, pre { orphans: 4; widows: 4; }
  .figures { grid-template-columns: 1fr 1fr; }
  pre { background: none; border: 1px solid #7a818a; }
}
""".strip()
