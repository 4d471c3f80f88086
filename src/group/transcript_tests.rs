//! The transcripts.

use super::transcript::check;

macro_rules! transcripts {
    ($($name:ident)*) => {$(
        #[test]
        fn $name() {
            check(include_str!(concat!("transcripts/", stringify!($name), ".txt")));
        }
    )*};
}

transcripts! {
    consumer_errors
    consumer_join
    consumer_offsets
    consumer_regex
    consumer_static
    consumer_time
    consumer_too_large
    consumer_topics
    migration
    migration_refused
}
