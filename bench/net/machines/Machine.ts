/** A machine under test, as root by ssh. */

import { quote, sshCommand } from "../../../test/support/ssh.js";
import type { Launcher } from "../../command.js";
import { TestbedError } from "../../testbed/TestbedError.js";

/** Emulated machines take their time. */
const TIMEOUT_MS = 300_000;

/** What a machine says of itself. */
export interface Surroundings {
  kernel: string;
  cores: number;
  /** Versions of podwire and iperf3. */
  podwire: string;
  iperf3: string;
  /** systemd-detect-virt(1): "qemu" is one without the hardware's help, "none" no virtual machine. */
  virtualization: string;
}

export class Machine {
  constructor(
    private readonly launcher: Launcher,
    private readonly sshConfig: string,
    readonly name: string,
  ) {}

  /** A program in a network namespace of the machine, by its path, as a command line here. */
  inNamespace(netns: string, argv: readonly string[], timeoutSeconds: number): string[] {
    const words = ["timeout", "-k", "1", String(timeoutSeconds), "nsenter", `--net=${netns}`, ...argv];
    return sshCommand(this.sshConfig, this.name, `exec ${words.map(quote).join(" ")}`);
  }

  /** Output of a shell script. Throws TestbedError where it fails: it runs under `set -e`. */
  async run(script: string): Promise<string> {
    const argv = sshCommand(this.sshConfig, this.name, `set -e\n${script}`);
    const { code, output, errors } = await this.launcher.run(argv, TIMEOUT_MS);
    if (code !== 0) throw new TestbedError(`${this.name}: exit status ${code}: ${(errors || output).trim()}`);
    return output;
  }

  /** Wants iperf3 to be there. */
  async surroundings(): Promise<Surroundings> {
    const commands = ["uname -r", "nproc", "podwire --version", "iperf3 --version | awk '{print $2; exit}'"];
    const said = await this.run([...commands, "systemd-detect-virt || :"].join("\n"));
    const [kernel = "", cores = "", podwire = "", iperf3 = "", virtualization = ""] = said.trim().split("\n");
    return { kernel, cores: Number(cores), podwire, iperf3, virtualization };
  }

  /** Installs what is missing of `programs`, given with the Debian package of each. */
  async install(programs: Readonly<Record<string, string>>): Promise<void> {
    const looks = Object.entries(programs).map(
      ([program, from]) => `command -v ${program} > /dev/null || missing="$missing ${from}"`,
    );
    await this.run(`missing=
${looks.join("\n")}
[ -n "$missing" ] || exit 0
apt() { DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 "$@" > /dev/null; }
apt update
apt install -y --no-install-recommends $missing
# The program is wanted, not the service.
case " $missing " in *" nginx "*) systemctl disable -q --now nginx || : ;; esac`);
  }
}
