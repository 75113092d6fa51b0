/**
 * A flame graph of a CPU profile: one self-contained SVG. A box is a function, as wide as the time that it and what it called took;
 * what it called hangs below it. Hovering shows the name, the place and the share; a click puts that box over the whole width.
 */
import { type CpuProfile, nameOf, nodeTimes, type Window } from "./profile.ts";

type Box = { readonly name: string; micros: number; readonly callees: Map<string, Box> };

const WIDTH = 1600;
const LINE = 17;
const TOP = 56;
/** Narrower ones, in pixels, are not drawn. */
const NARROWEST = 0.4;
const PER_LETTER = 6.6;

export function flameGraph(title: string, profile: CpuProfile, window: Window): string {
  const root = tree(profile, window);
  const boxes: string[] = [];
  const deepest = draw(root, root, { depth: 0, from: 0 }, boxes);
  const height = TOP + (deepest + 1) * LINE + 8;
  const seconds = (root.micros / 1e6).toFixed(1);
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" font-family="ui-monospace, Menlo, Consolas, monospace" font-size="11">
<title>${escaped(title)}</title>
<rect width="100%" height="100%" fill="#fff"/>
<text x="12" y="24" font-size="16" font-weight="bold">${escaped(title)}</text>
<text id="said" x="12" y="44" fill="#555">${seconds} s on the CPU. Blue: this project; orange: packages; grey: node and V8. Click a box to widen it, the first row to go back.</text>
${boxes.join("\n")}
<script><![CDATA[${SCRIPT}]]></script>
</svg>
`;
}

/** Calls merged by name below the same caller; `(root)` holds all. */
function tree(profile: CpuProfile, window: Window): Box {
  const times = nodeTimes(profile, window);
  const byId = new Map(profile.nodes.map((node) => [node.id, node]));
  const root: Box = { name: "all", micros: 0, callees: new Map() };
  const add = (id: number, into: Box): number => {
    const node = byId.get(id);
    if (!node) return 0;
    const box = id === profile.nodes[0]?.id ? into : calleeOf(into, nameOf(node.callFrame));
    const own = times.get(id) ?? 0;
    const whole = (node.children ?? []).reduce((sum, child) => sum + add(child, box), own);
    box.micros += whole;
    return whole;
  };
  add(profile.nodes[0]?.id ?? 0, root);
  return root;
}

function calleeOf(caller: Box, name: string): Box {
  const known = caller.callees.get(name);
  if (known) return known;
  const made: Box = { name, micros: 0, callees: new Map() };
  caller.callees.set(name, made);
  return made;
}

/** Widest first, so that what matters is on the left. Returns how deep it got. */
function draw(box: Box, root: Box, at: { readonly depth: number; readonly from: number }, boxes: string[]): number {
  const scale = (WIDTH - 24) / root.micros;
  const width = box.micros * scale;
  if (!(width >= NARROWEST)) return at.depth;
  boxes.push(drawn(box, root, 12 + at.from * scale, width, at.depth));
  let { from } = at;
  let deepest = at.depth;
  for (const callee of [...box.callees.values()].toSorted((a, b) => b.micros - a.micros)) {
    deepest = Math.max(deepest, draw(callee, root, { depth: at.depth + 1, from }, boxes));
    from += callee.micros;
  }
  return deepest;
}

function drawn({ name, micros }: Box, root: Box, x: number, width: number, depth: number): string {
  const share = `${((100 * micros) / root.micros).toFixed(2)} %, ${(micros / 1_000).toFixed(1)} ms`;
  const y = TOP + depth * LINE;
  const label = fitting(name, width);
  return `<g><title>${escaped(name)}\n${share}</title><rect x="${x.toFixed(1)}" y="${y}" width="${width.toFixed(1)}" height="${LINE - 1}" fill="${colour(name)}" rx="1"/><text x="${(x + 3).toFixed(1)}" y="${y + 12}" pointer-events="none">${escaped(label)}</text></g>`;
}

function fitting(name: string, width: number): string {
  const letters = Math.floor((width - 6) / PER_LETTER);
  if (letters < 4) return "";
  return name.length <= letters ? name : `${name.slice(0, letters - 1)}…`;
}

function colour(name: string): string {
  const place = name.split(" ").at(-1) ?? "";
  if (/^(src|actors|test)\//.test(place)) return "#9ecbea";
  if (/^node:|^\(|^all$/.test(place) || !place.includes(":")) return "#d5d5d5";
  return "#f6c177";
}

const escaped = (text: string): string =>
  text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");

/** Widens a box by moving and stretching all others; texts are cut anew. */
const SCRIPT = `
const groups = [...document.querySelectorAll("g")].map((g) => {
  const [title, rect, text] = g.children;
  const [x, width] = [Number(rect.getAttribute("x")), Number(rect.getAttribute("width"))];
  return { g, rect, text, x, width, y: Number(rect.getAttribute("y")), name: title.textContent.split("\\n")[0] };
});
for (const one of groups) one.g.addEventListener("click", () => {
  const scale = ${WIDTH - 24} / one.width;
  for (const { g, rect, text, x, width, y, name } of groups) {
    const below = y < one.y && x <= one.x + 0.2 && x + width >= one.x + one.width - 0.2;
    const shown = below || (x >= one.x - 0.2 && x + width <= one.x + one.width + 0.2);
    g.style.display = shown ? "" : "none";
    const [left, wide] = below ? [12, ${WIDTH - 24}] : [12 + (x - one.x) * scale, width * scale];
    const letters = Math.floor((wide - 6) / ${PER_LETTER});
    rect.setAttribute("x", left);
    rect.setAttribute("width", wide);
    text.setAttribute("x", left + 3);
    text.textContent = letters < 4 ? "" : name.length <= letters ? name : name.slice(0, letters - 1) + "…";
  }
});`;
