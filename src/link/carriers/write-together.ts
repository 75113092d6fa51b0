/** Several buffers in one system call, and one callback for all of them. */
import type { Writable } from "node:stream";

/** `taken` is called when the last of them was taken; never, when the stream ends before. */
export function writeTogether(stream: Writable, parts: readonly Uint8Array[], taken: (() => void) | null): void {
  const last = parts.length - 1;
  if (last > 0) stream.cork();
  for (let i = 0; i < last; i++) stream.write(parts[i]);
  stream.write(parts[last], (error) => {
    if (!error) taken?.();
  });
  if (last > 0) stream.uncork();
}
