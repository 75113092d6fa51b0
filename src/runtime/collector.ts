/**
 * How V8's garbage collector treats buffers. Every read from a socket makes one of 64 KiB outside V8's heap; left to itself
 * V8 counts them as if they were old objects and marks the whole heap each 20 MB: at bulk rates half of all CPU time.
 */
import { setFlagsFromString } from "node:v8";

/** For the whole process, at its start. Then the young generation's collections, which cost little, free such buffers. */
export function tuneCollector(): void {
  setFlagsFromString("--external-memory-accounted-in-global-limit");
  setFlagsFromString("--heap-growing-percent=300"); // what lives, four times: the most that V8 itself lets the heap grow
}
