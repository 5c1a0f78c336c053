//! The lab's program.

fn main() -> std::process::ExitCode {
    braid_lab::command_line::main()
}
