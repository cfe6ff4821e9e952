//! The `rollcall` binary. Everything is in the library, see `rollcall::cli`.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    rollcall::cli::main()
}
