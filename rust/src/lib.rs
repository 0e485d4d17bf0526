//! snapdelta: compact, checked, lossless binary deltas of dicts of records.
//!
//! A table of contents. Arrows point down: `python -> codec -> frame -> encoding -> state -> format -> error`.

// Without a binding only the tests call the codec.
#![cfg_attr(not(feature = "python"), allow(dead_code, unused_imports))]

mod codec;
mod encoding;
mod error;
mod format;
mod frame;
mod state;

#[cfg(feature = "python")]
mod python;

#[cfg(feature = "fuzzing")]
pub mod fuzzing;
