/** Which state directory a command is about. */
import { DEFAULT_STATE_DIR, readConfig, stateDirOf } from "../agent/config.js";

/** From --state-dir, else from the config file, else the default. Throws a ConfigError. */
export async function stateDirectory(options: { config?: string; stateDir?: string }): Promise<string> {
  if (options.stateDir !== undefined) return options.stateDir;
  return options.config === undefined ? DEFAULT_STATE_DIR : stateDirOf(await readConfig(options.config));
}
