/**
 * Loaded into a kas process before its own code (`--import`): on SIGUSR2 the next message to one actor makes its handler throw,
 * or never return. What and where is in the file that INJECT_FILE names: `throw home`, `hang home`.
 */
import { readFileSync } from "node:fs";
import { registerHooks } from "node:module";

type Fault = { readonly what: string; readonly actor: string };

let fault: Fault | null = null;

function strike(actor: string): void {
  if (fault?.actor !== actor) return;
  const { what } = fault;
  fault = null;
  if (what === "throw") throw new Error(`a fault was injected into ${actor}`);
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
}

process.on("SIGUSR2", () => {
  const [what = "", actor = ""] = readFileSync(process.env.INJECT_FILE ?? "", "utf8")
    .trim()
    .split(" ");
  fault = { what, actor };
});

Reflect.set(globalThis, "strike", strike);

const ACTOR = /\/actors\/([a-z-]+)\.[jt]s$/;
const HANDLER = /receive\((state, message[^)]*)\) \{/;

registerHooks({
  load(url, context, next) {
    const loaded = next(url, context);
    const actor = ACTOR.exec(url)?.[1];
    if (!actor || !loaded.source) return loaded;
    const source = Buffer.from(loaded.source as Uint8Array).toString();
    return { ...loaded, source: source.replace(HANDLER, `receive($1) { globalThis.strike("${actor}");`) };
  },
});
