/** Why a device could not be had, in terms of the description: the agent names the field by it. */
import type { DeviceSpec } from "../desired/host.js";

export type DeviceFault =
  /** The namespace path does not exist, or is no network namespace. */
  | "netns-missing"
  /** A device of that name exists and is not ours. */
  | "foreign-device"
  /** Another process has the device open. */
  | "device-busy"
  /** The kernel has no tunnel GSO for TAP devices. */
  | "no-tunnel-gso"
  /** The kernel has no USO for TAP devices. */
  | "no-uso"
  /** The device went away, or the namespace was replaced, while we worked on it. */
  | "lost"
  /** A route of somebody else is in the way. */
  | "route-taken"
  /** Anything else; the cause tells. */
  | "failed";

export class DeviceError extends Error {
  override readonly name = "DeviceError";

  constructor(
    readonly fault: DeviceFault,
    readonly spec: DeviceSpec,
    message: string,
    options?: { cause: unknown },
  ) {
    super(message, options);
  }
}
