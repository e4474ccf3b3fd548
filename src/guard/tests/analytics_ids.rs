//! The IDs that clients make, which the guard must not take for something personal: the
//! account's ID would not be usable.

use uuid::Uuid;

use super::assert_left_alone;

#[test]
fn an_analytics_id_of_any_client_is_left_alone() {
    for number in 0..20_000_u128 {
        // Spread over all values, and the same in each run.
        let id =
            Uuid::from_u128((number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835));
        let id = uuid::Builder::from_bytes(*id.as_bytes()).with_version(uuid::Version::Random);
        let id = id.with_variant(uuid::Variant::RFC4122).into_uuid();
        assert_left_alone(&id.hyphenated().to_string());
        assert_left_alone(&id.hyphenated().to_string().to_uppercase());
        assert_left_alone(&id.simple().to_string());
        // As matrix-react-sdk makes it: bytes in hexadecimal, without leading zeros.
        let bytes = id.as_bytes().iter();
        assert_left_alone(&bytes.map(|byte| format!("{byte:x}")).collect::<String>());
    }
}
