import { availableParallelism } from "node:os";
import { defineConfig } from "vitest/config";
import { FlakyTests } from "./test/support/FlakyTests.js";

export default defineConfig({
  test: {
    // Two even on two cores: half of the unit tests wait for programs.
    maxWorkers: Math.max(2, availableParallelism() - 1),
    reporters: ["default", new FlakyTests()],
    projects: [
      { test: { name: "unit", include: ["test/unit/**/*.test.ts"], testTimeout: 60_000 } },
      {
        // Namespace tests share the machine's devices and two cores: one file at a time.
        test: {
          name: "netns",
          include: ["test/netns/**/*.test.ts"],
          fileParallelism: false,
          // Beside others on a shared machine; what fails at first is told with its errors.
          retry: process.env.CI === undefined ? 0 : 1,
          testTimeout: 240_000,
          hookTimeout: 240_000,
        },
      },
    ],
  },
});
