/**
 * A token in a file that somebody else rotates. It is read again when the file changes, every minute, and at once when
 * asked; a read that fails or finds nothing leaves the last good token in place.
 */
import { type FSWatcher, readFileSync, watch } from "node:fs";
import { readFile } from "node:fs/promises";
import { dirname } from "node:path";
import type { Millis } from "../../actors/actor.ts";
import { failed } from "../failed.ts";
import type { Clock } from "../runtime/clock.ts";

const READ_EVERY: Millis = 60_000;

export type TokenFileOptions = {
  readonly path: string;
  readonly clock: Clock;
  /** Called when a token other than the last was read. */
  readonly changed?: () => void;
};

export class TokenFile implements Disposable {
  readonly #options: TokenFileOptions;
  readonly #watcher: FSWatcher | null;
  #timer: Disposable;
  #value: string;
  #reading = false;
  #stale = false;

  constructor(options: TokenFileOptions) {
    this.#options = options;
    this.#value = readToken(options.path);
    this.#watcher = watchFolder(options.path, () => this.renew());
    this.#timer = this.#later();
  }

  get value(): string {
    return this.#value;
  }

  renew(): void {
    if (this.#reading) {
      this.#stale = true;
      return;
    }
    this.#reading = true;
    this.#stale = false;
    readFile(this.#options.path, "utf8")
      .then(
        (text) => this.#took(text.trim()),
        () => {},
      )
      .finally(() => {
        this.#reading = false;
        if (this.#stale) this.renew();
      });
  }

  [Symbol.dispose](): void {
    this.#watcher?.close();
    this.#timer[Symbol.dispose]();
  }

  #took(token: string): void {
    if (token === "" || token === this.#value) return;
    this.#value = token;
    this.#options.changed?.();
  }

  #later(): Disposable {
    const { clock } = this.#options;
    return clock.schedule(clock.now() + READ_EVERY, () => {
      this.renew();
      this.#timer = this.#later();
    });
  }
}

/** Throws `invalid` when there is no token in the file. */
export function readToken(path: string): string {
  let token: string;
  try {
    token = readFileSync(path, "utf8").trim();
  } catch (cause) {
    throw failed("invalid", `cannot read the token file ${path}: check that it exists and may be read`, cause);
  }
  if (token === "") throw failed("invalid", `the token file ${path} is empty: write the token into it`);
  return token;
}

/** Kubernetes swaps a symbolic link beside the file, so the folder is watched; where that is impossible the minute must do. */
function watchFolder(path: string, changed: () => void): FSWatcher | null {
  try {
    const watcher = watch(dirname(path), { persistent: false }, changed);
    watcher.on("error", () => {});
    return watcher;
  } catch {
    return null;
  }
}
