/** Owns the lab's errors: what a user can understand and act upon, printed without a stack. */

export class LabError extends Error {
  readonly code: string;

  constructor(message: string, code = "LAB_FAILED") {
    super(message);
    this.name = "LabError";
    this.code = code;
  }
}

/** The user wants to stop; whoever sees it cleans up and says nothing. */
export class Interrupted extends LabError {
  constructor() {
    super("interrupted", "LAB_INTERRUPTED");
    this.name = "Interrupted";
  }
}
