//! What lies where in the folder that the driver and the preload library share. Compiled into both.

/// The environment variable that names the folder to the preload library.
pub const FOLDER: &str = "NATIVE_RINGS_FOLDER";
/// FIFO of `u32` local ports whose channel was kicked, driver to server.
pub const TO_SERVER: &str = "to-server";
/// FIFO of `u32`, server to driver: a domain that was notified, or [`IDLE`].
pub const FROM_SERVER: &str = "from-server";
/// The file with the shared words and the bytes for each domain.
pub const CONTROL: &str = "control";
/// The file that stands for `/proc/xen/xsd_port`.
pub const PORT_FILE: &str = "xsd_port";
/// The server has done all it can and begins to wait.
pub const IDLE: u32 = u32::MAX;
/// The server's local port for VIRQ_DOM_EXC.
pub const VIRQ_PORT: u32 = 1;
/// The server's local port for domain 0; the others follow.
pub const FIRST_PORT: u32 = 16;
/// Remote ports above this cannot be bound, as with 2-level event channels.
pub const REMOTE_PORT_MAX: u32 = 4096;
/// Bytes of a page.
pub const PAGE: usize = 4096;
/// Domain numbers have 16 bits.
pub const DOMAINS: usize = 1 << 16;

/// Offset of the `u32` that counts the events the server had taken when it was idle last.
pub const TAKEN: usize = 0;
/// Offset of the `u32` that is 1 while an event for [`VIRQ_PORT`] is in the FIFO.
pub const VIRQ_PENDING: usize = 4;
/// Offset of the `u64` that counts the server's notifications, merged ones too.
pub const NOTIFICATIONS: usize = 8;
/// Offset of the `u64` with the milliseconds by which the server's clocks are ahead.
pub const CLOCK_AHEAD: usize = 16;
/// Offset of the `u32` that counts the events that are in the FIFO to the server or were.
pub const SENT: usize = 24;
/// Offset of the `u32` that is 1 while the server's clients come by its Unix socket: then nobody wants to know when it is idle.
pub const BY_SOCKET: usize = 28;
/// Offset of one byte for each domain: [`ABSENT`], [`ALIVE`], [`SHUTDOWN`] or [`DYING`].
pub const STATES: usize = PAGE;
/// Offset of one byte for each domain: an event to the server is in the FIFO.
pub const TO_SERVER_PENDING: usize = STATES + DOMAINS;
/// Offset of one byte for each domain: a notification is in the FIFO.
pub const FROM_SERVER_PENDING: usize = TO_SERVER_PENDING + DOMAINS;
/// Bytes of the control file.
pub const CONTROL_SIZE: usize = FROM_SERVER_PENDING + DOMAINS;

/// The hypervisor does not know the domain.
pub const ABSENT: u8 = 0;
/// The domain exists and runs.
pub const ALIVE: u8 = 1;
/// The domain has shut down and waits for its toolstack.
pub const SHUTDOWN: u8 = 2;
/// The domain is being torn down.
pub const DYING: u8 = 3;
