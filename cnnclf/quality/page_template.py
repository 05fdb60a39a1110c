"""The parts of check.html that do not depend on the dataset: style, script and frame.

The page needs no network and works without its script, which only shows and serves the filters.
"""

from string import Template
from typing import Final

PAGE: Final = Template(
    """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:;
 style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>Check of $name</title>
<style>$style</style>
</head>
<body>
<header>
<h1>Check of $name</h1>
<p>$total</p>
<p class="counts">$counts</p>
<form id="filters" hidden>
$filters
<output id="shown"></output>
</form>
</header>
<main>
$contents
$sections
<section>
<h2>Images of each class</h2>
$histogram
</section>
<section>
<h2>Checks without findings</h2>
<p>$silent</p>
$not_run
</section>
</main>
<footer>Written by cnnclf $version. No file of the dataset was changed; findings.csv has all
findings.</footer>
<script>$script</script>
</body>
</html>
"""
)

STYLE: Final = """
:root { --page: #fff; --text: #1c1e21; --dim: #5a6069; --card: #f5f6f8; --line: #d5d8dd;
  --error: #b3261e; --warning: #8a5a00; --info: #1a5fb4;
  --train: #3b78b8; --val: #d9822b; --test: #3f8f5b; }
@media (prefers-color-scheme: dark) {
  :root { --page: #16181c; --text: #e6e8eb; --dim: #a3a9b3; --card: #22252b; --line: #3a3f47;
    --error: #ff8a80; --warning: #f2b84b; --info: #82b6ff;
    --train: #6ea3dc; --val: #eba45c; --test: #72c08d; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 76rem; background: var(--page);
  color: var(--text); font: 15px/1.45 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: 0 0 .3rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2rem 0 .3rem; }
p { margin: .2rem 0; }
a { color: inherit; }
form { position: sticky; top: 0; display: flex; flex-wrap: wrap; gap: .4rem 1rem; padding: .6rem 0;
  background: var(--page); }
form[hidden], [hidden] { display: none; }
select { font: inherit; max-width: 18rem; }
.error { color: var(--error); } .warning { color: var(--warning); } .info { color: var(--info); }
.badge { font-weight: 600; }
.dim, footer { color: var(--dim); }
.cards { display: flex; flex-wrap: wrap; gap: .8rem; padding: 0; margin: .8rem 0;
  list-style: none; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 6px; padding: .6rem;
  max-width: 100%; }
.card p { max-width: 21rem; overflow-wrap: anywhere; }
.pair { display: flex; gap: .6rem; }
figure { margin: 0; width: 10.4rem; }
figure img, figure .none { display: block; width: 160px; height: 160px; object-fit: contain;
  background: var(--line); image-rendering: auto; }
figure .none { display: grid; place-items: center; color: var(--dim); }
figcaption { font-size: .82rem; overflow-wrap: anywhere; }
figcaption b { color: var(--warning); }
svg text { fill: var(--text); font: 13px system-ui, sans-serif; }
.train { fill: var(--train); } .val { fill: var(--val); } .test { fill: var(--test); }
.rest { fill: var(--dim); }
.key { display: inline-block; width: .8em; height: .8em; vertical-align: baseline; }
.key.train { background: var(--train); } .key.val { background: var(--val); }
.key.test { background: var(--test); } .key.rest { background: var(--dim); }
footer { margin-top: 2.5rem; font-size: .85rem; }
"""

SCRIPT: Final = """
const form = document.getElementById("filters");
const cards = [...document.querySelectorAll(".card")];
const sections = [...document.querySelectorAll("section[data-check]")];
const has = (text, value) => !value || JSON.parse(text).includes(value);
function filter() {
  const { label, split, check } = Object.fromEntries(new FormData(form));
  let shown = 0;
  for (const card of cards) {
    const data = card.dataset;
    card.hidden = !(has(data.labels, label) && has(data.splits, split));
  }
  for (const section of sections) {
    const own = [...section.querySelectorAll(".card")];
    const left = own.filter((card) => !card.hidden).length;
    section.hidden = Boolean((check && section.dataset.check !== check) || !left);
    shown += section.hidden ? 0 : left;
  }
  document.getElementById("shown").textContent = `${shown} of ${cards.length} shown`;
}
form.addEventListener("input", filter);
form.addEventListener("submit", (event) => event.preventDefault());
form.hidden = false;
filter();
"""
