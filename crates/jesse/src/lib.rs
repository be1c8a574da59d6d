//! jesse
