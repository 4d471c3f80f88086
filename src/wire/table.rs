//! The macro behind the message tables: one row a field, everything else derived.
//!
//! *Owns*: the form of a table. *Never*: knows a message. *Runs on*: every core.
//!
//! ```text
//! api! {
//!     API: 0 "Produce", versions 3-13, flexible 9;
//!
//!     message ProduceRequest { ... }
//!     part TopicProduceData {
//!         name: Text, 0-12;
//!         error_message: Option<Text>, 8+, null 8+;
//!         current_leader: LeaderIdAndEpoch, 10+, tag 0;
//!         log_start_offset: i64, 5+, default -1;
//!     }
//! }
//! ```
//!
//! A row is: name, type, versions, then as needed the versions that allow null (the type is an `Option` then), the
//! tag (rows with tags stand in the order of their tags), and the default if it isn't zero, empty or `None`. The
//! order of the rows is the order on the wire. A `message` is a request or reply, a `part` lives inside one.

macro_rules! api {
    (
        API: $key:literal $name:literal, versions $first:literal - $last:literal, flexible $flexible:literal;
        $($(#[$doc:meta])* $kind:ident $struct:ident { $($rows:tt)* })*
    ) => {
        /// The API these messages belong to.
        pub const API: $crate::wire::codec::Api = $crate::wire::codec::Api {
            key: $key,
            name: $name,
            versions: $crate::wire::codec::Versions { first: $first, last: $last },
            flexible_from: $flexible,
        };

        $($crate::wire::table::fields! { [$(#[$doc])* $struct] $($rows)* })*
        $($crate::wire::table::kind! { $kind $struct })*
    };
}

/// Tables of what Kafka keeps in records of its own topics, keys and values in versions of their own, and of what
/// consumers tell each other in the same form. A `record` is a key or a value, a `part` lives inside one.
macro_rules! stored {
    ($(
        $(#[$doc:meta])* $kind:ident $struct:ident
        $(, versions $first:literal - $last:literal, flexible $flexible:literal)? { $($rows:tt)* }
    )*) => {
        $($crate::wire::table::fields! { [$(#[$doc])* $struct] $($rows)* })*
        $($crate::wire::table::stored_kind! { $kind $struct $(, $first $last $flexible)? })*
    };
}

macro_rules! stored_kind {
    (record $struct:ident, $first:literal $last:literal $flexible:literal) => {
        impl $crate::wire::codec::Stored for $struct {
            const VERSIONS: $crate::wire::codec::Versions =
                $crate::wire::codec::Versions { first: $first, last: $last };
            const FLEXIBLE_FROM: i16 = $flexible;
        }
    };
    ($kind:ident $struct:ident) => {
        $crate::wire::table::kind! { $kind $struct }
    };
}

/// Puts each row of one table into the same form, with an empty bracket for what it leaves out.
macro_rules! fields {
    (
        $head:tt
        $(
            $(#[$doc:meta])*
            $field:ident: $type:ty,
            $first:literal $(+)? $(- $last:literal)?
            $(, null $null_first:literal $(+)? $(- $null_last:literal)?)?
            $(, tag $tag:literal)?
            $(, default $default:expr)?
            ;
        )*
    ) => {
        $crate::wire::table::rows! {
            $head
            $(
                [$(#[$doc])*] $field [$type] [$first $($last)?] [$($null_first $($null_last)?)?] [$($tag)?]
                [$($default)?]
            )*
        }
    };
}

/// The struct of one table, its defaults, and its coding as a value.
macro_rules! rows {
    (
        [$(#[$doc:meta])* $struct:ident]
        $(
            [$(#[$field_doc:meta])*] $field:ident [$type:ty] $versions:tt $null:tt [$($tag:literal)?] $default:tt
        )*
    ) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Debug)]
        pub struct $struct {
            $($(#[$field_doc])* pub $field: $type,)*
        }

        impl Default for $struct {
            fn default() -> Self {
                $struct { $($field: $crate::wire::table::default!($default, $type),)* }
            }
        }

        impl $crate::wire::codec::Value for $struct {
            #[inline]
            fn bytes_min(version: $crate::wire::codec::Version) -> usize {
                let mut bytes = usize::from(version.flexible);
                $(
                    if $crate::wire::table::has!($versions, version, untagged $($tag)?) {
                        bytes += $crate::wire::table::bytes_min!($null, $type, version);
                    }
                )*
                bytes.max(1)
            }

            #[inline]
            #[allow(unused_mut, reason = "only tagged fields change after they are declared")]
            fn decode(
                reader: &mut $crate::wire::reader::Reader,
                version: $crate::wire::codec::Version,
            ) -> Result<Self, $crate::wire::reader::DecodeError> {
                $(
                    let mut $field: $type = if $crate::wire::table::has!($versions, version, untagged $($tag)?) {
                        $crate::wire::table::decode!($null, reader, version)
                            .map_err(|error| error.within(stringify!($struct), stringify!($field)))?
                    } else {
                        $crate::wire::table::default!($default, $type)
                    };
                )*
                if version.flexible {
                    reader
                        .tagged_fields(|_reader, tag| match tag {
                            $($(
                                $tag if $crate::wire::table::has!($versions, version) => {
                                    $field = $crate::wire::table::decode!($null, _reader, version)
                                        .map_err(|error| error.within(stringify!($struct), stringify!($field)))?;
                                    Ok(true)
                                }
                            )?)*
                            _ => Ok(false),
                        })
                        .map_err(|error| error.within(stringify!($struct), "tagged fields"))?;
                }
                Ok($struct { $($field,)* })
            }

            #[inline]
            fn encode(&self, writer: &mut $crate::wire::writer::Writer, version: $crate::wire::codec::Version) {
                $(
                    if $crate::wire::table::has!($versions, version, untagged $($tag)?) {
                        $crate::wire::table::encode!($null, &self.$field, writer, version);
                    }
                )*
                if version.flexible {
                    // A tagged field is there unless it has its default.
                    $($(
                        let $field = $crate::wire::table::has!($versions, version, tagged $tag)
                            && self.$field != $crate::wire::table::default!($default, $type);
                    )?)*
                    writer.uvarint(0 $($(+ $crate::wire::table::count!($field, $tag))?)*);
                    $($(
                        if $field {
                            writer.tagged_field($tag, |writer| {
                                $crate::wire::table::encode!($null, &self.$field, writer, version);
                            });
                        }
                    )?)*
                }
            }

            fn set_throttle_time_ms(&mut self, _ms: i32) {
                $($crate::wire::table::throttle!($field, self, _ms);)*
            }

            fn sample(rng: &mut $crate::base::rng::Rng, version: $crate::wire::codec::Version) -> Self {
                $struct {
                    $(
                        $field: if $crate::wire::table::has!($versions, version)
 && $crate::wire::table::sampled!($null, rng) {
                            $crate::wire::table::sample!($null, rng, version)
                        } else {
                            $crate::wire::table::default!($default, $type)
                        },
                    )*
                }
            }
        }
    };
}

/// What a struct of a table is, besides a value.
macro_rules! kind {
    (message $struct:ident) => {
        impl $crate::wire::codec::Message for $struct {
            const API: $crate::wire::codec::Api = API;

            fn decode(
                reader: &mut $crate::wire::reader::Reader,
                version: i16,
            ) -> Result<Self, $crate::wire::reader::DecodeError> {
                match API.version(version) {
                    Some(version) => $crate::wire::codec::Value::decode(reader, version),
                    None => Err(reader.error($crate::wire::reader::Fault::Version { version })),
                }
            }

            fn encode(&self, writer: &mut $crate::wire::writer::Writer, version: i16) {
                let version = API.version(version).expect("a reply is in a version that has a table");
                $crate::wire::codec::Value::encode(self, writer, version);
            }

            fn set_throttle_time_ms(&mut self, ms: i32) {
                $crate::wire::codec::Value::set_throttle_time_ms(self, ms);
            }

            fn sample(rng: &mut $crate::base::rng::Rng, version: i16) -> Self {
                let version = API.version(version).expect("samples are for versions that have a table");
                $crate::wire::codec::Value::sample(rng, version)
            }
        }
    };
    (part $struct:ident) => {};
    // A part that may itself be null: a byte before it says whether it is there.
    (nullable_part $struct:ident) => {
        impl $crate::wire::codec::Nullable for $struct {
            fn decode_nullable(
                reader: &mut $crate::wire::reader::Reader,
                version: $crate::wire::codec::Version,
            ) -> Result<Option<Self>, $crate::wire::reader::DecodeError> {
                if reader.i8()? < 0 {
                    return Ok(None);
                }
                $crate::wire::codec::Value::decode(reader, version).map(Some)
            }

            fn encode_nullable(
                value: Option<&Self>,
                writer: &mut $crate::wire::writer::Writer,
                version: $crate::wire::codec::Version,
            ) {
                writer.i8(if value.is_some() { 1 } else { -1 });
                if let Some(value) = value {
                    $crate::wire::codec::Value::encode(value, writer, version);
                }
            }
        }
    };
}

/// Sets the one field that says how long a client was throttled.
macro_rules! throttle {
    (throttle_time_ms, $self:ident, $ms:ident) => {
        $self.throttle_time_ms = $ms
    };
    ($field:ident, $self:ident, $ms:ident) => {};
}

/// Whether a version has a field, and in the given form.
macro_rules! has {
    ([$first:literal $($last:literal)?], $version:ident) => {
        $crate::wire::table::versions!($first $($last)?).contains($version.number)
    };
    ($versions:tt, $version:ident, untagged) => {
        $crate::wire::table::has!($versions, $version)
    };
    ($versions:tt, $version:ident, untagged $tag:literal) => {
        false
    };
    ($versions:tt, $version:ident, tagged $tag:literal) => {
        $crate::wire::table::has!($versions, $version)
    };
}

/// Whether a sample gets a value of its own. An `Option` always does, since where null is not allowed, it would come
/// back as the empty value.
macro_rules! sampled {
    ([], $rng:ident) => {
        $rng.below(8) > 0
    };
    ($null:tt, $rng:ident) => {
        true
    };
}

macro_rules! versions {
    ($first:literal) => {
        $crate::wire::codec::Versions { first: $first, last: i16::MAX }
    };
    ($first:literal $last:literal) => {
        $crate::wire::codec::Versions { first: $first, last: $last }
    };
}

macro_rules! count {
    ($present:ident, $tag:literal) => {
        u32::from($present)
    };
}

macro_rules! default {
    ([], $type:ty) => {
        <$type as Default>::default()
    };
    ([$default:expr], $type:ty) => {
        $default
    };
}

macro_rules! bytes_min {
    ([], $type:ty, $version:ident) => {
        <$type as $crate::wire::codec::Value>::bytes_min($version)
    };
    // Null takes a byte, whatever the type.
    ($null:tt, $type:ty, $version:ident) => {
        1
    };
}

macro_rules! decode {
    ([], $reader:ident, $version:ident) => {
        $crate::wire::codec::Value::decode($reader, $version)
    };
    ($null:tt, $reader:ident, $version:ident) => {
        $crate::wire::codec::decode_option($reader, $version, $crate::wire::table::has!($null, $version))
    };
}

macro_rules! encode {
    ([], $value:expr, $writer:ident, $version:ident) => {
        $crate::wire::codec::Value::encode($value, $writer, $version)
    };
    ($null:tt, $value:expr, $writer:ident, $version:ident) => {
        $crate::wire::codec::encode_option($value, $writer, $version, $crate::wire::table::has!($null, $version))
    };
}

macro_rules! sample {
    ([], $rng:ident, $version:ident) => {
        $crate::wire::codec::Value::sample($rng, $version)
    };
    ($null:tt, $rng:ident, $version:ident) => {
        $crate::wire::codec::sample_option($rng, $version, $crate::wire::table::has!($null, $version))
    };
}

pub(super) use api;
pub(crate) use {
    bytes_min, count, decode, default, encode, fields, has, kind, rows, sample, sampled, stored, stored_kind, throttle,
    versions,
};
