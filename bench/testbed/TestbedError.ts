/** A variant could not be brought up. The message says why. */
export class TestbedError extends Error {
  override name = "TestbedError";
}
