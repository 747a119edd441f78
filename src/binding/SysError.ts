/** A system call that failed. The only class that native code throws for the kernel's refusals. */
export class SysError extends Error {
  override readonly name = "SysError";
  /** The call or ioctl, as the kernel's documentation names it: "bind", "TUNSETIFF". */
  readonly syscall: string;
  /** The positive number, as in os.constants.errno and in MSG_ERRNO. */
  readonly errno: number;
  /** The name of `errno`: "EADDRINUSE". */
  readonly code: string;

  constructor(syscall: string, errno: number, code: string, text: string) {
    super(`${syscall}: ${code}, ${text}`);
    this.syscall = syscall;
    this.errno = errno;
    this.code = code;
  }
}
