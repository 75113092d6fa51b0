/**
 * Follows the content of one file. It looks every second (which finds every kind of replacement, Kubernetes' symlink swap
 * included) and at once when the directory says that something moved. A version counts only when two reads agree on it.
 */
import { type FSWatcher, watch } from "node:fs";
import { readFile } from "node:fs/promises";
import { dirname } from "node:path";
import type { Millis } from "../../actors/actor.ts";
import { failed } from "../failed.ts";
import type { Clock } from "../runtime/clock.ts";

export type WatchOptions = {
  readonly file: string;
  readonly clock: Clock;
  readonly changed: (text: string) => void;
  /** The file went away or may not be read; said once until it is back. */
  readonly unreadable: (reason: string) => void;
};

export interface FileWatcher extends AsyncDisposable {
  /** Content at the start. */
  readonly text: string;
}

const LOOK_EVERY: Millis = 1000;
/** An editor or `cat >` truncates first and writes after: by then it is done. */
const SETTLE: Millis = 100;

export async function watchFile(options: WatchOptions): Promise<FileWatcher> {
  let text: string;
  try {
    text = await readFile(options.file, "utf8");
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw failed("invalid", `${options.file} cannot be read: ${why}; check its name and permissions`, cause);
  }
  return new Watcher(options, text);
}

class Watcher implements FileWatcher {
  readonly text: string;
  readonly #options: WatchOptions;
  #current: string;
  /** A version seen once. */
  #candidate: string | null = null;
  #readable = true;
  #ended = false;
  #timer: Disposable;
  #looking: Promise<void> = Promise.resolve();
  readonly #directory: FSWatcher | null;

  constructor(options: WatchOptions, text: string) {
    this.text = text;
    this.#current = text;
    this.#options = options;
    this.#timer = this.#lookIn(LOOK_EVERY);
    this.#directory = watchDirectory(dirname(options.file), () => this.#sooner());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#ended = true;
    this.#timer[Symbol.dispose]();
    this.#directory?.close();
    await this.#looking;
  }

  #lookIn(pause: Millis): Disposable {
    const { clock } = this.#options;
    return clock.schedule(clock.now() + pause, () => {
      this.#looking = this.#look();
    });
  }

  #sooner(): void {
    if (this.#ended || this.#candidate !== null) return;
    this.#timer[Symbol.dispose]();
    this.#timer = this.#lookIn(SETTLE);
  }

  async #look(): Promise<void> {
    let text: string | null = null;
    try {
      text = await readFile(this.#options.file, "utf8");
      this.#readable = true;
    } catch (error) {
      this.#lost(error);
    }
    if (this.#ended) return;
    this.#timer[Symbol.dispose]();
    this.#timer = this.#lookIn(this.#judge(text) ? SETTLE : LOOK_EVERY);
  }

  /** True when the same file should be read again soon. */
  #judge(text: string | null): boolean {
    const candidate = this.#candidate;
    this.#candidate = text === this.#current ? null : text;
    if (this.#candidate === null) return false;
    if (this.#candidate !== candidate) return true;
    this.#current = this.#candidate;
    this.#candidate = null;
    this.#options.changed(this.#current);
    return false;
  }

  #lost(error: unknown): void {
    if (this.#ended || !this.#readable) return;
    this.#readable = false;
    const why = error instanceof Error ? error.message : String(error);
    this.#options.unreadable(`${this.#options.file} cannot be read: ${why}; the version read before stays in force`);
  }
}

/** Only a hint, and not everywhere to be had: looking every second finds what it misses. */
function watchDirectory(directory: string, moved: () => void): FSWatcher | null {
  try {
    const watcher = watch(directory, { persistent: false }, moved);
    watcher.on("error", () => watcher.close());
    return watcher;
  } catch {
    return null;
  }
}
