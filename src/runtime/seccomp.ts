/**
 * The seccomp filter of a container: what Docker's and containerd's default profile keeps from a
 * container with default capabilities, said as what is denied. runc leaves out system calls that its
 * libseccomp does not know. Pure.
 */

const EPERM = 1;
const ENOSYS = 38;

/** clone(2) flags that make a namespace. */
const NAMESPACE_FLAGS = [
  0x0000_0080, // CLONE_NEWTIME
  0x0002_0000, // CLONE_NEWNS
  0x0200_0000, // CLONE_NEWCGROUP
  0x0400_0000, // CLONE_NEWUTS
  0x0800_0000, // CLONE_NEWIPC
  0x1000_0000, // CLONE_NEWUSER
  0x2000_0000, // CLONE_NEWPID
  0x4000_0000, // CLONE_NEWNET
];

/** Mounts, modules, keys, clocks, tracing of the kernel, other processes' memory, handles past the mounts. */
const DENIED = [
  "acct",
  "add_key",
  "bpf",
  "clock_adjtime",
  "clock_settime",
  "create_module",
  "delete_module",
  "fanotify_init",
  "finit_module",
  "fsconfig",
  "fsmount",
  "fsopen",
  "fspick",
  "get_kernel_syms",
  "get_mempolicy",
  "init_module",
  "io_uring_enter",
  "io_uring_register",
  "io_uring_setup",
  "ioperm",
  "iopl",
  "kcmp",
  "kexec_file_load",
  "kexec_load",
  "keyctl",
  "lookup_dcookie",
  "mbind",
  "mount",
  "mount_setattr",
  "move_mount",
  "move_pages",
  "name_to_handle_at",
  "nfsservctl",
  "open_by_handle_at",
  "open_tree",
  "perf_event_open",
  "pidfd_getfd",
  "pivot_root",
  "process_madvise",
  "query_module",
  "quotactl",
  "quotactl_fd",
  "reboot",
  "request_key",
  "set_mempolicy",
  "settimeofday",
  "stime",
  "swapoff",
  "swapon",
  "sysfs",
  "umount",
  "umount2",
  "uselib",
  "userfaultfd",
  "ustat",
  "vhangup",
  "vm86",
  "vm86old",
];

/** Also what makes and enters namespaces. */
const DENIED_NAMESPACES = ["setns", "unshare"];

/** 32-bit system calls of the same machine are filtered too; others' end the process. */
const ARCHITECTURES: Readonly<Record<string, string[]>> = {
  x64: ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
  arm64: ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
};

export interface SeccompFilter {
  defaultAction: "SCMP_ACT_ALLOW";
  architectures: string[];
  syscalls: {
    names: string[];
    action: "SCMP_ACT_ERRNO";
    errnoRet: number;
    args?: { index: number; value: number; valueTwo: number; op: "SCMP_CMP_MASKED_EQ" }[];
  }[];
}

/**
 * The filter as an OCI spec has it (linux.seccomp); null for a processor that is not known.
 *
 * @param arch as process.arch names it
 * @param namespaces whether making namespaces is denied too
 */
export function seccompFilter(arch: string, namespaces: boolean): SeccompFilter | null {
  const architectures = ARCHITECTURES[arch];
  if (architectures === undefined) return null;
  const deny = (names: string[], errnoRet = EPERM) =>
    ({ names, action: "SCMP_ACT_ERRNO", errnoRet }) as const;
  const byFlag = NAMESPACE_FLAGS.map((flag) => ({
    ...deny(["clone"]),
    args: [{ index: 0, value: flag, valueTwo: flag, op: "SCMP_CMP_MASKED_EQ" } as const],
  }));
  return {
    defaultAction: "SCMP_ACT_ALLOW",
    architectures,
    syscalls: [
      deny(DENIED),
      // Its flags lie in memory, where a filter does not see them: the C library falls back to clone.
      ...(namespaces ? [deny(DENIED_NAMESPACES), ...byFlag, deny(["clone3"], ENOSYS)] : []),
    ],
  };
}
