/** Frames of a batch as one line, for people: `npm run sim -- --seed N --frames`. */
import { FLAG_END, FRAME, HEADER_BYTES } from "../../actors/frame.ts";

const NAMES = new Map<number, string>(Object.entries(FRAME).map(([name, type]) => [type, name.toUpperCase()]));
const NUMBERS = new Set<number>([FRAME.credit, FRAME.close]);
const FLAGGED = new Set<number>([FRAME.open, FRAME.head, FRAME.data, FRAME.trailer]);

export function framesOf(batch: readonly Uint8Array[]): string {
  const bytes = Buffer.concat(batch);
  const out: string[] = [];
  for (let at = 0; at + HEADER_BYTES <= bytes.length; ) {
    const type = bytes.readUInt8(at);
    const flags = bytes.readUInt8(at + 1);
    const length = bytes.readUIntBE(at + 2, 3);
    const id = bytes.readUInt32BE(at + 5);
    const value = NUMBERS.has(type) ? ` ${bytes.readUInt32BE(at + HEADER_BYTES)}` : length > 0 ? ` ${length} B` : "";
    const end = FLAGGED.has(type) && flags & FLAG_END ? " END" : "";
    const unprocessed = type === FRAME.reset && flags ? " unprocessed" : "";
    out.push(`${NAMES.get(type) ?? type}${id ? ` ${id}` : ""}${value}${end}${unprocessed}`);
    at += HEADER_BYTES + length;
  }
  return out.join(", ");
}
