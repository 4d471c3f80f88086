//! What people see of a tool: numbers, tables, colours, what is waited for, and how printing ends.
//!
//! *Owns*: their form. *Never*: knows what is printed. *Runs on*: any thread of a tool.

pub mod numbers;
pub mod paint;
pub mod printed;
pub mod table;
pub mod waiting;
