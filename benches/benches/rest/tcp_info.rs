//! What the kernel knows of a TCP connection.

use std::{io, net::TcpStream, os::fd::AsRawFd as _};

/// Returns how many packets a connection has sent and received, with those that carry no
/// data: `tcpi_segs_out` and `tcpi_segs_in` of Linux (`linux/tcp.h`, since 4.2).
#[expect(unsafe_code, reason = "no safe crate in the tree reads this option")]
pub(crate) fn packets(connection: &TcpStream) -> io::Result<u64> {
    const SEGS_OUT: usize = 34;
    const SEGS_IN: usize = 35;

    let mut info = [0_u32; 64];
    let mut length = size_of_val(&info) as libc::socklen_t;
    // SAFETY: the descriptor is open as long as the borrow, and the kernel writes at most
    // `length` bytes, which `info` has.
    let result = unsafe {
        libc::getsockopt(
            connection.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(u64::from(info[SEGS_OUT]) + u64::from(info[SEGS_IN]))
}
