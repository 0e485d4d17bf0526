//! snapdelta: compact, checked, lossless binary deltas of dicts of records.
//!
//! A table of contents. Arrows point down: `python | wasm -> codec -> frame -> encoding -> state -> format -> error`.

// Without the Python binding only the tests call all of the codec.
#![cfg_attr(not(feature = "python"), allow(dead_code, unused_imports))]

mod codec;
mod encoding;
mod error;
mod format;
mod frame;
mod state;

#[cfg(feature = "python")]
mod python;

#[cfg(feature = "wasm")]
mod wasm;

#[cfg(feature = "fuzzing")]
pub mod fuzzing;
