import type { Reporter, TestCase } from "vitest/node";

/** Tells of tests that passed only when they were run again: which, and the errors of before. */
export class FlakyTests implements Reporter {
  readonly #tests: TestCase[] = [];

  onTestCaseResult(test: TestCase): void {
    if (test.diagnostic()?.flaky === true) this.#tests.push(test);
  }

  onTestRunEnd(): void {
    for (const test of this.#tests) {
      console.log(`FLAKY ${test.module.relativeModuleId} > ${test.fullName}`);
      for (const { message, stack } of test.result().errors ?? []) console.log(stack ?? message);
    }
  }
}
