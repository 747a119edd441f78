/**
 * Where the acceptance suite goes: the same four nodes and pc, reached by `lab exec` or by ssh. Knows
 * how a command gets to a machine, and nothing of what is asked there.
 */
import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { sshCommand } from "../../support/ssh.js";
import { settingsOf } from "./settings.js";
const PODWIRE = fileURLToPath(new URL("../../../../dist/cli/main.js", import.meta.url));
/** Every command has ended by then, also on emulated machines. */
const TIMEOUT_MS = 240_000;
const SETTINGS = settingsOf(process.env);
/**
 * Runs a shell script as root on a machine: a node's name, or "pc". Rejects only where the machine
 * cannot be reached.
 */
export async function at(place, script, input = "") {
    const result = await run(commandLine(place, script), input);
    if (SETTINGS.kind === "ssh" && result.code === 255)
        throw new Error(`ssh ${place}: ${result.stderr.trim()}`);
    return result;
}
/** Standard output of a script that has to succeed. */
export async function expectAt(place, script, input = "") {
    const { code, stdout, stderr } = await at(place, script, input);
    if (code !== 0)
        throw new Error(`${place}$ ${script}\nexit status ${code}: ${stderr || stdout}`);
    return stdout;
}
/** The node that kubectl runs on. */
export const MASTER = "k8s-master";
const KUBECONFIG = "/var/lib/podwire/apiserver/admin.kubeconfig";
/** kubectl on the master, as its administrator. */
export function kubectl(args, input = "") {
    const environment = SETTINGS.kind === "lab" ? "" : `KUBECONFIG=${KUBECONFIG} `;
    return at(MASTER, `${environment}kubectl ${args}`, input);
}
/** Standard output of a kubectl that has to succeed. */
export async function expectKubectl(args, input = "") {
    const { code, stdout, stderr } = await kubectl(args, input);
    if (code !== 0)
        throw new Error(`kubectl ${args}\nexit status ${code}: ${stderr || stdout}`);
    return stdout;
}
function commandLine(place, script) {
    if (SETTINGS.kind === "lab")
        return [process.execPath, PODWIRE, "lab", "exec", place, "--", "sh", "-c", script];
    if (place === "pc" && !SETTINGS.pc)
        return ["sh", "-c", script];
    return sshCommand(SETTINGS.sshConfig, place, script);
}
function run(command, input) {
    return new Promise((resolve, reject) => {
        const child = spawn(command[0], command.slice(1), { timeout: TIMEOUT_MS, killSignal: "SIGKILL" });
        const result = { code: -1, stdout: "", stderr: "" };
        child.stdout.setEncoding("utf8").on("data", (text) => {
            result.stdout += text;
        });
        child.stderr.setEncoding("utf8").on("data", (text) => {
            result.stderr += text;
        });
        child.on("error", reject);
        child.on("close", (code) => resolve({ ...result, code: code ?? -1 }));
        // A command that does not read its input is no failure.
        child.stdin.on("error", () => { });
        child.stdin.end(input);
    });
}
//# sourceMappingURL=target.js.map