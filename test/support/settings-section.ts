/**
 * The generated section of docs/operations.md: from `## Settings` to the next heading of its level. Run as a program it
 * writes the section anew.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { renderSettings } from "../../src/config/settings-table.ts";

export const PAGE = new URL("../../docs/operations.md", import.meta.url);
const SECTION = /^## Settings\n[\s\S]*?(?=^## (?!Settings)|$(?![\s\S]))/m;

export const sectionOf = (page: string): string => SECTION.exec(page)?.[0] ?? "";

export const generated = (): string => `${renderSettings().trimEnd()}\n\n`;

/** The page with its section as the schema has it. */
export const regenerate = (page: string): string => page.replace(SECTION, () => generated());

if (import.meta.main) writeFileSync(PAGE, regenerate(readFileSync(PAGE, "utf8")));
