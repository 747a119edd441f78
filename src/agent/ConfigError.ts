/** Errors that the user can mend: each names the file, the field, what is wrong and the remedy. */

/** Keys and indices from the top of the document: ["pods", 0, "netns"]. */
export type FieldPath = readonly (string | number)[];

export interface Problem {
  /** Config file; "" where none is involved. */
  file: string;
  /** From 1; 0 where no place in the file is meant. */
  line: number;
  column: number;
  /** pods[0].netns; "" where the whole file or the machine is meant. */
  field: string;
  /** What is wrong, starting in lower case, without a full stop. */
  message: string;
  /** What to do, a sentence. */
  remedy: string;
}

/** pods[0].netns for ["pods", 0, "netns"]. */
export function fieldName(path: FieldPath): string {
  return path.reduce<string>(
    (name, part) =>
      typeof part === "number" ? `${name}[${part}]` : name === "" ? String(part) : `${name}.${part}`,
    "",
  );
}

/** One line: "FILE:LINE:COLUMN: FIELD: MESSAGE. REMEDY". */
function formatProblem(problem: Problem): string {
  const place = problem.line > 0 ? `${problem.file}:${problem.line}:${problem.column}` : problem.file;
  const said = [place, problem.field, problem.message].filter((part) => part !== "").join(": ");
  return problem.remedy === "" ? `${said}.` : `${said}. ${problem.remedy}`;
}

/**
 * The config, or the machine it is for, is not fit. Lists every problem found. `origin` tells which: a
 * wrong config stays wrong however often one starts; the machine may be fit the next time.
 */
export class ConfigError extends Error {
  override readonly name = "ConfigError";

  constructor(
    readonly problems: Problem[],
    readonly origin: "config" | "environment" = "config",
  ) {
    super(problems.map(formatProblem).join("\n"));
  }
}
