/**
 * `npm run acceptance -- --target lab|vagrant|ssh`: runs the walkthrough's steps, each a file of tests,
 * one after another, and prints one TAP stream. Exit status 0 if all passed.
 *
 *   lab       the lab that is up (`podwire lab up`)
 *   vagrant   the machines of vagrant/Vagrantfile
 *   ssh       machines that an ssh config knows by the walkthrough's names
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Command, InvalidArgumentError, Option } from "commander";
import t from "tap";
import { vagrantSshConfig } from "../support/ssh.js";
import { environmentOf } from "./support/settings.js";
const HERE = fileURLToPath(new URL(".", import.meta.url));
const ROOT = fileURLToPath(new URL("../../../", import.meta.url));
const FILES = ["1-pods", "2-clusterip", "3-nodeport", "4-loadbalancer"];
/** For one step. Emulated machines take their time. */
const TIMEOUT_MS = 1_800_000;
const options = new Command("acceptance")
    .addOption(new Option("-t, --target <target>", "where").choices(["lab", "vagrant", "ssh"]).makeOptionMandatory())
    .option("-F, --ssh-config <file>", "for ssh: knows the nodes' names, and pc if there is one")
    .option("-s, --step <n...>", "only these steps", parseStep)
    .parse()
    .opts();
const work = mkdtempSync(join(tmpdir(), "podwire-acceptance-"));
// Each step has a time of its own.
t.setTimeout(0);
t.teardown(() => rmSync(work, { recursive: true, force: true }));
// Not by tap's own command: it loads a compiler that does not know the TypeScript of this repository.
const env = {
    ...process.env,
    ...environmentOf(settingsOf(options)),
    // Of each of its tests, in seconds.
    TAP_TIMEOUT: String(TIMEOUT_MS / 1000),
};
for (const [i, name] of FILES.entries()) {
    if (options.step !== undefined && !options.step.includes(i + 1))
        continue;
    await t.spawn(process.execPath, [join(HERE, `${name}.js`)], { env, timeout: TIMEOUT_MS }, name);
}
function settingsOf({ target, sshConfig = "" }) {
    if (target === "lab")
        return { kind: "lab", sshConfig: "", pc: true };
    const file = target === "vagrant" ? vagrantConfig() : sshConfig;
    return {
        kind: "ssh",
        sshConfig: file,
        pc: file !== "" && /^Host .*\bpc\b/m.test(readFileSync(file, "utf8")),
    };
}
function vagrantConfig() {
    const file = join(work, "ssh_config");
    writeFileSync(file, vagrantSshConfig(join(ROOT, "vagrant")));
    return file;
}
function parseStep(text, before = []) {
    const step = Number(text);
    if (!Number.isInteger(step) || step < 1 || step > FILES.length)
        throw new InvalidArgumentError(`want a step from 1 to ${FILES.length}`);
    return [...before, step];
}
//# sourceMappingURL=run.js.map