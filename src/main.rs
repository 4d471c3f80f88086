fn main() {
    println!("corelog {}", env!("CARGO_PKG_VERSION"));
}
