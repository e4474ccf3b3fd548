//! The form in which the catalogue is written: a schema for each event.

/// Declares an event: its name, and its properties as [`properties!`] takes them.
macro_rules! event {
    ($(#[$meta:meta])* $name:ident = $wire:literal { $($properties:tt)* }) => {
        $crate::element::macros::properties! { $(#[$meta])* $name { $($properties)* } }

        impl $crate::event::AnalyticsEvent for $name {
            const NAME: &'static str = $wire;
        }
    };
}

/// Declares a set of properties. Each has a description that goes on after a colon, a name in
/// Rust, a type and the name under which it is sent.
///
/// Besides numbers, booleans and enums, a type may be `Text`, or `[T]` for an array of an enum.
macro_rules! properties {
    (
        $(#[$meta:meta])*
        $name:ident {
            $(optional { $($optional:tt)* })?
        }
    ) => {
        $crate::element::macros::properties! {
            $(#[$meta])*
            #[derive(Default)]
            $name { required {} optional { $($($optional)*)? } }
        }
    };
    (
        $(#[$meta:meta])*
        $name:ident {
            required { $($required:tt)+ }
        }
    ) => {
        $crate::element::macros::properties! {
            $(#[$meta])*
            $name { required { $($required)+ } optional {} }
        }
    };
    (
        $(#[$meta:meta])*
        $name:ident {
            required { $(
                $(#[doc = $required_doc:literal])+
                $required:ident: $required_type:tt = $required_wire:literal,
            )* }
            optional { $(
                $(#[doc = $optional_doc:literal])+
                $optional:ident: $optional_type:tt = $optional_wire:literal,
            )* }
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, PartialEq, Eq, serde::Serialize)]
        #[non_exhaustive]
        pub struct $name {
            $(
                #[serde(rename = $required_wire)]
                $required: $crate::element::macros::stored!($required_type),
            )*
            $(
                #[serde(rename = $optional_wire, skip_serializing_if = "Option::is_none")]
                $optional: Option<$crate::element::macros::stored!($optional_type)>,
            )*
        }

        /// Prints the name of the type only: a text may be personal.
        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($name)).finish_non_exhaustive()
            }
        }

        impl $name {
            /// Creates it without optional properties.
            ///
            $(
                #[doc = concat!(
                    "- `", stringify!($required), "`, sent as `", $required_wire, "`:"
                    $(, $required_doc)+
                )]
            )*
            #[must_use]
            pub fn new(
                $($required: $crate::element::macros::argument!($required_type)),*
            ) -> Self {
                Self {
                    $($required: $crate::element::macros::store!($required_type, $required),)*
                    $($optional: None,)*
                }
            }

            $(
                #[doc = concat!("Sets `", $optional_wire, "`:" $(, $optional_doc)+)]
                #[must_use]
                pub fn $optional(
                    mut self,
                    $optional: $crate::element::macros::argument!($optional_type),
                ) -> Self {
                    self.$optional =
                        Some($crate::element::macros::store!($optional_type, $optional));
                    self
                }
            )*
        }

        #[cfg(test)]
        impl $crate::element::tests::Samples for $name {
            fn samples() -> Vec<Self> {
                let least = Self {
                    $($required: $crate::element::tests::first(),)*
                    $($optional: None,)*
                };
                let samples = [
                    vec![least.clone()],
                    $($crate::element::tests::each(|value| {
                        let mut sample = least.clone();
                        sample.$required = value;
                        sample
                    }),)*
                    $($crate::element::tests::each(|value| {
                        let mut sample = least.clone();
                        sample.$optional = Some(value);
                        sample
                    }),)*
                ];
                samples.concat()
            }
        }
    };
}

/// Declares an enum of words. A variant is sent under its own name or the one behind it.
macro_rules! vocabulary {
    (
        $(#[$meta:meta])*
        $name:ident { $($variant:ident $(= $wire:literal)?,)+ }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
        #[non_exhaustive]
        pub enum $name {
            $(
                #[doc = concat!(
                    "Sent as `", $crate::element::macros::wire!($variant $(= $wire)?), "`."
                )]
                $(#[serde(rename = $wire)])?
                $variant,
            )+
        }

        #[cfg(test)]
        impl $crate::element::tests::Samples for $name {
            fn samples() -> Vec<Self> {
                vec![$(Self::$variant),+]
            }
        }
    };
}

macro_rules! wire {
    ($variant:ident) => {
        stringify!($variant)
    };
    ($variant:ident = $wire:literal) => {
        $wire
    };
}

/// The type of a field.
macro_rules! stored {
    (Text) => { $crate::element::text::Text };
    ([$item:ident]) => { Vec<$item> };
    ($other:ident) => { $other };
}

/// The type of an argument.
macro_rules! argument {
    (Text) => { impl Into<std::borrow::Cow<'static, str>> };
    ([$item:ident]) => { impl IntoIterator<Item = $item> };
    ($other:ident) => { $other };
}

/// Makes the value of a field from an argument.
macro_rules! store {
    (Text, $value:ident) => {
        $crate::element::text::Text::new($value)
    };
    ([$item:ident], $value:ident) => {
        $value.into_iter().collect()
    };
    ($other:ident, $value:ident) => {
        $value
    };
}

pub(super) use {argument, event, properties, store, stored, vocabulary, wire};
