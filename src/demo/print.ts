/** What the demo says: lines for people, steps with the time they took, aligned. Colour only where a terminal wants it. */
export type Output = {
  write(text: string): void;
  /** A terminal that shows colour and lets a line be rewritten. */
  readonly terminal: boolean;
};

const WHAT_WIDTH = 76;

export const millis = (took: number): string => `${took < 10 ? took.toFixed(1) : Math.round(took)} ms`;

export class Printer {
  readonly #output: Output;

  constructor(output: Output) {
    this.#output = output;
  }

  line(text = ""): void {
    this.#output.write(`${text}\n`);
  }

  heading(text: string): void {
    this.line();
    this.line(this.#painted("1", text));
  }

  /** One thing that was asked and whether its answer was right. */
  checked(right: boolean, text: string): void {
    this.line(`  ${this.#mark(right)} ${text}`);
  }

  /** Says that it begins (on a terminal), does it, and says what `done` makes of the result, with its time. */
  async step<Result>(what: string, work: () => Promise<Result>, done: (result: Result) => string): Promise<Result> {
    const began = performance.now();
    if (this.#output.terminal) this.#output.write(`  … ${what}`);
    try {
      const result = await work();
      this.#rewrite(true, done(result), performance.now() - began);
      return result;
    } catch (error) {
      this.#rewrite(false, what, performance.now() - began);
      throw error;
    }
  }

  #rewrite(right: boolean, what: string, took: number): void {
    if (this.#output.terminal) this.#output.write("\r\u001b[K");
    this.checked(right, `${what.padEnd(WHAT_WIDTH)} ${millis(took).padStart(8)}`);
  }

  #mark(right: boolean): string {
    return right ? this.#painted("32", "✓") : this.#painted("31", "✗");
  }

  #painted(code: string, text: string): string {
    return this.#output.terminal ? `\u001b[${code}m${text}\u001b[0m` : text;
  }
}

/** Rows as columns of equal width; the last column keeps its own. */
export function aligned(rows: readonly (readonly string[])[]): readonly string[] {
  const widths: number[] = [];
  for (const row of rows) for (const [i, cell] of row.entries()) widths[i] = Math.max(widths[i] ?? 0, cell.length);
  return rows.map((row) =>
    row
      .map((cell, i) => cell.padEnd(widths[i] ?? 0))
      .join("  ")
      .trimEnd(),
  );
}
