//! Reading bodies: exact, chunked, until close.
