//! Reading heads: start line, fields, and the rules that decide the framing.
