//! What layers over an [`crate::Io`] have in common: most of its methods only go on to it.
//!
//! What it leaves to others: what a layer changes.

/// Methods of an [`Io`](crate::Io) that is a layer over the one in a field, passed on to that
/// field. They are named one by one: the compiler asks for each that is neither named nor written.
///
/// ```text
/// impl<I: Io> Io for Layer<I> {
///     tidegate_io::pass_on! { io: listen accept connect_with ... }
///
///     fn send(&mut self, socket: Socket, output: Output) { ... }
/// }
/// ```
#[macro_export]
macro_rules! pass_on {
    ($field:ident: $($method:ident)*) => { $($crate::pass_on!(@ $method $field);)* };
    (@ listen $field:ident) => {
        fn listen(
            &mut self,
            listener: ::std::os::fd::OwnedFd,
            token: $crate::Token,
        ) -> ::std::io::Result<$crate::Socket> {
            self.$field.listen(listener, token)
        }
    };
    (@ connect_with $field:ident) => {
        fn connect_with(
            &mut self,
            address: &::std::net::SocketAddr,
            options: &$crate::ConnectOptions,
            token: $crate::Token,
        ) -> ::std::io::Result<$crate::Socket> {
            self.$field.connect_with(address, options, token)
        }
    };
    (@ accept $field:ident) => { $crate::pass_on!(@@ accept $field (socket: $crate::Socket)); };
    (@ set_token $field:ident) => {
        $crate::pass_on!(@@ set_token $field (socket: $crate::Socket, token: $crate::Token));
    };
    (@ recv $field:ident) => { $crate::pass_on!(@@ recv $field (socket: $crate::Socket)); };
    (@ recv_some $field:ident) => {
        $crate::pass_on!(@@ recv_some $field (socket: $crate::Socket, bytes_max: u32));
    };
    (@ pause $field:ident) => { $crate::pass_on!(@@ pause $field (socket: $crate::Socket)); };
    (@ shutdown_write $field:ident) => {
        $crate::pass_on!(@@ shutdown_write $field (socket: $crate::Socket));
    };
    (@ expect $field:ident) => {
        $crate::pass_on!(@@ expect $field (came: usize, awaited: usize));
    };
    (@ set_waker_token $field:ident) => {
        $crate::pass_on!(@@ set_waker_token $field (token: $crate::Token));
    };
    (@ trim $field:ident) => {
        fn trim(&mut self) -> bool {
            self.$field.trim()
        }
    };
    (@ output $field:ident) => {
        fn output(&mut self) -> $crate::Output {
            self.$field.output()
        }
    };
    (@ is_receiving $field:ident) => {
        fn is_receiving(&self, socket: $crate::Socket) -> bool {
            self.$field.is_receiving(socket)
        }
    };
    (@ now $field:ident) => {
        fn now(&self) -> $crate::Now {
            self.$field.now()
        }
    };
    (@ waker $field:ident) => {
        fn waker(&self) -> $crate::Waker {
            self.$field.waker()
        }
    };
    (@ peer_address $field:ident) => {
        fn peer_address(&self, socket: $crate::Socket) -> Option<::std::net::SocketAddr> {
            self.$field.peer_address(socket)
        }
    };
    (@ local_address $field:ident) => {
        fn local_address(&self, socket: $crate::Socket) -> Option<::std::net::SocketAddr> {
            self.$field.local_address(socket)
        }
    };
    (@ stats $field:ident) => {
        fn stats(&self) -> $crate::IoStats {
            self.$field.stats()
        }
    };
    (@ name $field:ident) => {
        fn name(&self) -> &'static str {
            self.$field.name()
        }
    };
    // What answers nothing.
    (@@ $method:ident $field:ident ($($argument:ident: $kind:ty),*)) => {
        fn $method(&mut self, $($argument: $kind),*) {
            self.$field.$method($($argument),*);
        }
    };
}
