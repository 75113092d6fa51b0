/**
 * Log records: one JSON object a line on stderr. A reader that is slow or gone stops nobody: what it does not take is
 * dropped above 1 MiB. Warnings and errors that repeat are written once per 10 s with their number.
 */
import { type Logger as Pino, pino } from "pino";
import type { Millis } from "../../actors/actor.ts";
import { type Clock, systemClock } from "../runtime/clock.ts";
import { Collapse } from "./collapse.ts";

export const LOG_LEVELS = ["debug", "info", "warn", "error"] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

export type Fields = Readonly<Record<string, unknown>>;

/** `fields.err` is an error and comes out with its type, message, stack and cause. */
export interface Logger {
  debug(msg: string, fields?: Fields): void;
  info(msg: string, fields?: Fields): void;
  warn(msg: string, fields?: Fields): void;
  error(msg: string, fields?: Fields): void;
  /** A logger whose every record also has these. */
  child(bindings: Fields): Logger;
}

export interface RootLogger extends Logger, Disposable {
  /** May be changed at any time, for all its children too. */
  level: LogLevel;
  /**
   * As `info`, for what is written for every request: a plain record whose fields are named in the source, so that none
   * is looked through for secrets. `msg` needs no escaping.
   */
  record(msg: string, fields: Fields): void;
}

export interface LogDestination {
  write(line: string): void;
  /** Writes what is buffered, when the process ends. */
  flushSync?(): void;
}

export type LoggerOptions = {
  readonly level?: LogLevel;
  readonly bindings?: Fields;
  readonly destination?: LogDestination;
  readonly clock?: Clock;
};

/** Lines leave together, none later than this after it was written. */
const FLUSH_WITHIN: Millis = 50;
const FLUSH_CHARACTERS = 32 * 1024;
const STDERR = { dest: 2, sync: false, maxLength: 1024 * 1024 };

const SECRETS = ["authorization", "cookie", "token", "password", "secret", "private-token", "job-token"];

export function createLogger({
  level = "info",
  bindings = {},
  destination,
  clock = systemClock,
}: LoggerOptions = {}): RootLogger {
  const out: LogDestination = destination ?? new Gathered(clock);
  const options = {
    level: "debug",
    base: null,
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label: string) => ({ level: label }) },
    redact: [...SECRETS, ...SECRETS.map((name) => `*.${name}`)].map(quoted),
  };
  const shared = { level, collapse: new Collapse(clock) };
  const lines = new Lines(shared, pino(options, out).child(bindings));
  const before = '{"level":"info","time":"';
  const own = Object.keys(bindings).length > 0 ? `${JSON.stringify(bindings).slice(1, -1)},` : "";
  return {
    debug: (msg, fields) => lines.debug(msg, fields),
    info: (msg, fields) => lines.info(msg, fields),
    warn: (msg, fields) => lines.warn(msg, fields),
    error: (msg, fields) => lines.error(msg, fields),
    record(msg, fields) {
      if (LOG_LEVELS.indexOf(shared.level) > LOG_LEVELS.indexOf("info")) return;
      out.write(`${before}${new Date().toISOString()}",${own}${JSON.stringify(fields).slice(1, -1)},"msg":"${msg}"}\n`);
    },
    child: (more) => lines.child(more),
    get level() {
      return shared.level;
    },
    set level(wanted) {
      shared.level = wanted;
    },
    [Symbol.dispose]() {
      shared.collapse[Symbol.dispose]();
      out.flushSync?.();
    },
  };
}

/** Gathers lines, because a write for each costs more than the line. */
class Gathered implements LogDestination {
  readonly #clock: Clock;
  readonly #stderr: ReturnType<typeof pino.destination>;
  #lines: string[] = [];
  #characters = 0;
  #due = false;

  constructor(clock: Clock) {
    this.#clock = clock;
    process.on("exit", this.#flush); // before stderr's own, which writes what it was given
    this.#stderr = pino.destination(STDERR);
  }

  write(line: string): void {
    this.#lines.push(line);
    this.#characters += line.length;
    if (this.#characters >= FLUSH_CHARACTERS) this.#flush();
    else if (!this.#due) {
      this.#due = true;
      this.#clock.schedule(this.#clock.now() + FLUSH_WITHIN, () => {
        this.#due = false;
        this.#flush();
      });
    }
  }

  flushSync(): void {
    process.off("exit", this.#flush);
    this.#flush();
    this.#stderr.flushSync();
  }

  readonly #flush = (): void => {
    if (this.#lines.length === 0) return;
    const text = this.#lines.join("");
    this.#lines = [];
    this.#characters = 0;
    this.#stderr.write(text);
  };
}

/** pino's path syntax: a name with a dash goes into brackets. */
const quoted = (path: string): string => path.replace(/[.]?([a-z]+-[a-z]+)$/, '["$1"]');

type Shared = { level: LogLevel; readonly collapse: Collapse };

class Lines implements Logger {
  readonly #shared: Shared;
  readonly #pino: Pino;
  /** Tells children apart when repetitions are counted. */
  readonly #name: string;

  constructor(shared: Shared, lines: Pino, name = "") {
    this.#shared = shared;
    this.#pino = lines;
    this.#name = name;
  }

  debug(msg: string, fields: Fields = {}): void {
    if (this.#shows("debug")) this.#pino.debug(fields, msg);
  }

  info(msg: string, fields: Fields = {}): void {
    if (this.#shows("info")) this.#pino.info(fields, msg);
  }

  warn(msg: string, fields: Fields = {}): void {
    this.#once("warn", msg, fields);
  }

  error(msg: string, fields: Fields = {}): void {
    this.#once("error", msg, fields);
  }

  child(bindings: Fields): Logger {
    return new Lines(this.#shared, this.#pino.child(bindings), `${this.#name}${JSON.stringify(bindings)}`);
  }

  #shows(level: LogLevel): boolean {
    return LOG_LEVELS.indexOf(level) >= LOG_LEVELS.indexOf(this.#shared.level);
  }

  #once(level: "warn" | "error", msg: string, fields: Fields): void {
    if (!this.#shows(level)) return;
    const why = fields.err instanceof Error ? fields.err.message : "";
    this.#shared.collapse.say(`${level} ${this.#name} ${msg} ${why}`, (repeated) => {
      this.#pino[level](repeated > 0 ? { ...fields, repeated } : fields, msg);
    });
  }
}
