/** Which state directory a command is about. */
import { readConfig, stateDirOf } from "../agent/config.js";
import { DEFAULT_STATE_DIR } from "../model/stateDir.js";

/** From --state-dir, else from the config file, else the default. Throws a ConfigError. */
export async function stateDirectory(options: { config?: string; stateDir?: string }): Promise<string> {
  if (options.stateDir !== undefined) return options.stateDir;
  return options.config === undefined ? DEFAULT_STATE_DIR : stateDirOf(await readConfig(options.config));
}
