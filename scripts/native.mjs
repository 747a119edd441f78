/**
 * The native part, at install and at packing:
 *   node scripts/native.mjs install    uses the prebuilt that is in the package if it fits this machine,
 *                                      else builds with node-gyp
 *   node scripts/native.mjs prebuild   puts what is built into prebuilds/PLATFORM-ARCH, for npm pack
 *   node scripts/native.mjs clean      takes it out again
 *
 * One prebuilt serves every Node.js from 20 on: the binding uses Node-API only. It fits machines whose C
 * library is not older than that of the machine it was built on.
 */
import { spawnSync } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const built = join(root, "build", "Release", "podwire.node");
const prebuilt = join(root, "prebuilds", `${process.platform}-${process.arch}`, "podwire.node");

/** Whether a binding loads here; in a process of its own, since a wrong one may end it. */
function loads(file) {
  if (!existsSync(file)) return false;
  return (
    spawnSync(process.execPath, ["-e", "require(process.argv[1])", file], { stdio: "ignore" }).status === 0
  );
}

/** Headers that lie beside this Node.js (NodeSource's and Debian's packages, tarballs): nothing to fetch then. */
function headers() {
  const prefix = dirname(dirname(process.execPath));
  return existsSync(join(prefix, "include", "node", "node_api.h")) ? [`--nodedir=${prefix}`] : [];
}

/** @param commands of node-gyp: from scratch, or only what has changed */
function build(...commands) {
  // npm puts its node-gyp into PATH of install scripts.
  const { status, error } = spawnSync("node-gyp", [...commands, "--loglevel=warn", ...headers()], {
    cwd: root,
    stdio: "inherit",
  });
  if (error !== undefined) console.error(`node-gyp: ${error.message}`);
  if (status === 0) return 0;
  console.error(
    "podwire: the native part was not built. It needs a C++ compiler, make and Python:\n" +
      "  apt-get install g++ make python3",
  );
  return 1;
}

const [command] = process.argv.slice(2);
switch (command) {
  case "install":
    if (loads(prebuilt)) console.log("podwire: the prebuilt native part fits this machine");
    else process.exitCode = build("rebuild");
    break;
  case "prebuild":
    // One that loads may still be of older sources.
    process.exitCode = build("configure", "build");
    if (process.exitCode) break;
    mkdirSync(dirname(prebuilt), { recursive: true });
    copyFileSync(built, prebuilt);
    break;
  case "clean":
    rmSync(join(root, "prebuilds"), { recursive: true, force: true });
    break;
  default:
    console.error("usage: node scripts/native.mjs install|prebuild|clean");
    process.exitCode = 2;
}
