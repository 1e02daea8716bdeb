//! What the backends do in surroundings that deny them something: seccomp filters, little locked
//! memory, few descriptors, an unprivileged user.
//!
//! Each test runs itself again as a child process in such surroundings and looks at what the child
//! printed, for a filter or a limit can't be taken back.
//!
//! What it leaves to others: behaviour where nothing is denied.

#![allow(unsafe_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use tidegate_io::backend::{Backend, Chosen};
use tidegate_io::epoll::Epoll;
use tidegate_io::socket::{ListenOptions, listen};
use tidegate_io::uring::{Uring, probe};
use tidegate_io::{Io, IoOptions, Outcome, Token};

const CHILD: &str = "TIDEGATE_TEST_CHILD";

/// Runs the test `name` again as a child, prepared by `prepare`, and returns what it printed. In
/// the child returns `None` at once.
fn child(name: &str, prepare: fn(&mut Command)) -> Option<String> {
    if std::env::var_os(CHILD).is_some() {
        return None;
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", name, "--nocapture", "--test-threads=1"]).env(CHILD, "1");
    prepare(&mut command);
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the child failed:\n{text}\n{errors}");
    Some(text)
}

/// Denies the three system calls of io_uring to this thread, with this errno.
fn deny_io_uring(errno: i32) {
    const LOAD_NUMBER: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
    const EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
    const RETURN: u16 = 0x06; // BPF_RET | BPF_K
    const ERRNO: u32 = 0x0005_0000;
    const ALLOW: u32 = 0x7fff_0000;
    let step = |code, jt, k| libc::sock_filter { code, jt, jf: 0, k };
    let mut program = [
        step(LOAD_NUMBER, 0, 0),
        step(EQUAL, 3, libc::SYS_io_uring_setup as u32),
        step(EQUAL, 2, libc::SYS_io_uring_enter as u32),
        step(EQUAL, 1, libc::SYS_io_uring_register as u32),
        step(RETURN, 0, ALLOW),
        step(RETURN, 0, ERRNO | errno as u32),
    ];
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: plain flags, and a filter program that the kernel copies.
    let installed = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        libc::prctl(libc::PR_SET_SECCOMP, 2 /* SECCOMP_MODE_FILTER */, &raw const filter)
    };
    assert_eq!(installed, 0, "{}", io::Error::last_os_error());
}

fn set_limit(resource: libc::__rlimit_resource_t, value: u64) -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: value, rlim_max: value };
    // SAFETY: a readable limit.
    if unsafe { libc::setrlimit(resource, &raw const limit) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// A message through the backend and back.
fn echo(io: &mut impl Io) {
    let fd = listen(&"127.0.0.1:0".parse().unwrap(), &ListenOptions::default()).unwrap();
    let listener = io.listen(fd, Token(0)).unwrap();
    let address = io.local_address(listener).unwrap();
    io.accept(listener);
    let client = io.connect(&address, Token(1)).unwrap();
    let mut seen = Vec::new();
    for _ in 0..100 {
        io.turn(Some(Duration::from_millis(100)), &mut seen).unwrap();
        for completion in seen.drain(..) {
            match completion.outcome {
                Outcome::Accepted(server) => io.recv(server),
                Outcome::Connected(result) => {
                    result.unwrap();
                    let mut output = io.output();
                    output.tail().extend_from_slice(b"hello");
                    io.send(client, output);
                }
                Outcome::Received(buffer) => {
                    assert_eq!(*buffer, *b"hello");
                    return;
                }
                Outcome::Sent(result) => result.unwrap(),
                other => panic!("{other:?}"),
            }
        }
    }
    panic!("the message did not arrive");
}

fn filtered(name: &str, errno: i32, prepare: fn(&mut Command)) {
    if let Some(text) = child(name, prepare) {
        assert!(text.contains("AUTO epoll"), "{text}");
        assert!(text.contains("--security-opt seccomp="), "{text}");
        return;
    }
    deny_io_uring(errno);
    let choice = Backend::Auto.choose().unwrap();
    assert_eq!(choice.backend, Chosen::Epoll);
    println!("AUTO epoll: {}", choice.warning.unwrap());
    let unavailable = Backend::IoUring.choose().unwrap_err();
    assert_eq!(unavailable.errno.unwrap().0, errno);
    assert_eq!(Uring::new(&IoOptions::default()).err().unwrap().raw_os_error(), Some(errno));
    echo(&mut Epoll::new(&IoOptions::default()).unwrap());
}

#[test]
fn a_filter_that_answers_eperm_is_named() {
    filtered("a_filter_that_answers_eperm_is_named", libc::EPERM, |_| {});
}

#[test]
fn a_filter_that_answers_enosys_is_named() {
    filtered("a_filter_that_answers_enosys_is_named", libc::ENOSYS, |_| {});
}

fn copied_program() -> PathBuf {
    let name = std::thread::current().name().unwrap_or("test").to_owned();
    std::env::temp_dir().join(format!("tidegate-io-{}-{name}", std::process::id()))
}

/// Makes the child an unprivileged user with little memory to lock and few descriptors.
fn as_nobody(command: &mut Command) {
    // The child must be able to reach its own program. Copied by another process: one that another
    // test of this process forks meanwhile would inherit the descriptor that writes it, and a
    // program that is being written can't be run.
    let copy = copied_program();
    let from = std::env::current_exe().unwrap();
    let script = r#"cp -- "$0" "$1" && chmod 755 "$1""#;
    let status = Command::new("sh").args(["-c", script]).arg(from).arg(&copy).status().unwrap();
    assert!(status.success());
    let arguments: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
    *command = Command::new(copy);
    command.args(arguments).env(CHILD, "1").current_dir("/").uid(65534).gid(65534);
    // SAFETY: setrlimit is safe between fork and exec.
    unsafe {
        command.pre_exec(|| {
            set_limit(libc::RLIMIT_MEMLOCK, 64 * 1024)?;
            set_limit(libc::RLIMIT_NOFILE, 256)
        });
    }
}

#[test]
fn an_unprivileged_user_with_small_limits_is_served() {
    let name = "an_unprivileged_user_with_small_limits_is_served";
    if std::env::var_os(CHILD).is_none() {
        // SAFETY: asks for a number.
        if unsafe { libc::geteuid() } != 0 {
            eprintln!("SKIPPED {name}: only root can become somebody else");
            return;
        }
        if let Err(unavailable) = probe() {
            eprintln!("SKIPPED {name}: no io_uring here: {unavailable}");
            return;
        }
        let text = child(name, as_nobody).unwrap();
        let _ = std::fs::remove_file(copied_program());
        assert!(text.contains("CHOSEN IoUring"), "{text}");
        // Where the kernel counts queues against the limit, the warning says what to raise.
        assert!(text.contains("WARNING -") || text.contains("RLIMIT_MEMLOCK"), "{text}");
        return;
    }
    let choice = Backend::Auto.choose().unwrap();
    println!("CHOSEN {:?}", choice.backend);
    println!("WARNING {}", choice.warning.as_deref().unwrap_or("-"));
    let mut shards: Vec<_> = (0..4).map(|_| Uring::new(&IoOptions::default()).unwrap()).collect();
    for shard in &mut shards {
        echo(shard);
    }
    echo(&mut Epoll::new(&IoOptions::default()).unwrap());
}

#[test]
fn no_memory_to_lock_is_explained() {
    let name = "no_memory_to_lock_is_explained";
    if std::env::var_os(CHILD).is_none() {
        // SAFETY: asks for a number.
        if unsafe { libc::geteuid() } != 0 || probe().is_err() {
            eprintln!("SKIPPED {name}: needs root and io_uring");
            return;
        }
        child(name, |command| {
            as_nobody(command);
            // SAFETY: setrlimit is safe between fork and exec.
            unsafe { command.pre_exec(|| set_limit(libc::RLIMIT_MEMLOCK, 0)) };
        });
        let _ = std::fs::remove_file(copied_program());
        return;
    }
    // Kernels before 6.13 do not count the queues, and all is well.
    if let Err(unavailable) = probe() {
        assert!(unavailable.reason.contains("RLIMIT_MEMLOCK is 0 KiB"), "{unavailable}");
    }
}

#[test]
fn no_descriptors_left_is_explained() {
    let prepare = |_: &mut Command| {};
    if child("no_descriptors_left_is_explained", prepare).is_some() || probe().is_err() {
        return;
    }
    let highest =
        std::fs::File::open("/").map(|file| std::os::fd::AsRawFd::as_raw_fd(&file)).unwrap();
    set_limit(libc::RLIMIT_NOFILE, highest as u64).unwrap();
    let unavailable = probe().unwrap_err();
    assert!(unavailable.reason.contains("RLIMIT_NOFILE"), "{unavailable}");
    let failed = Epoll::new(&IoOptions::default()).err().unwrap();
    assert_eq!(failed.raw_os_error(), Some(libc::EMFILE));
}
