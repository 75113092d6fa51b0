/** The section `## Settings` of docs/operations.md, rendered from the schema: names, defaults and meanings have one source. */
import { kasSchema, UNUSED } from "./kas-schema.ts";
import { type Setting, settingsOf } from "./setting.ts";

const INTRODUCTION = `Every setting of kas.yaml. A variable of the environment beats the file: \`KAS_\` and the path in capitals,
\`__\` between levels, such as \`KAS_AGENT__LISTEN__ADDRESS\`. \`kas config check FILE\` names every fault with its line.`;

export function renderSettings(): string {
  const rows = [...settingsOf(kasSchema)].map(rowOf);
  const unused = Object.entries(UNUSED).map(([place, why]) => `| \`${place}\` | ${cell(why)} |`);
  return [
    "## Settings",
    "",
    INTRODUCTION,
    "",
    "| setting | default | expects | meaning |",
    "|---|---|---|---|",
    ...rows,
    "",
    "Settings of GitLab's kas that have no effect here (a warning, not an error):",
    "",
    "| setting | why |",
    "|---|---|",
    ...unused,
    "",
  ].join("\n");
}

const rowOf = ({ path, preset, expected, meaning }: Setting): string =>
  `| \`${path.join(".")}\` | ${presetOf(preset)} | ${cell(expected)} | ${cell(meaning)} |`;

const presetOf = (preset: unknown): string =>
  preset === undefined ? "–" : `\`${typeof preset === "string" ? preset : JSON.stringify(preset)}\``;

const cell = (text: string): string => text.replaceAll("|", "\\|");
