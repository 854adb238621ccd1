//! The macro that turns a type into the exports of a component.

/// Makes a type the plugin, for the hooks named: any of `Lifecycle`, `Frames`, `Responses`, `Pushes`, `Handshakes`,
/// `Closings`, `Timers`, `Schedules` and `Reports`, each of which it implements. Once per crate, whose type is `cdylib`.
///
/// ```
/// use aileron_plugin::{Action, Connection, Frames, Interest, Lifecycle, Payload};
///
/// struct Loud;
///
/// impl Lifecycle for Loud {
///     fn configure(_settings: Vec<(String, String)>) -> Result<Interest, String> {
///         Ok(Interest::default())
///     }
/// }
///
/// impl Frames for Loud {
///     fn on_frame(_connection: Connection, message: Payload) -> Vec<Action> {
///         match message {
///             Payload::Text(text) => vec![Action::Reply(Payload::Text(text.to_uppercase()))],
///             Payload::Binary(_) => vec![Action::Next(None)],
///         }
///     }
/// }
///
/// aileron_plugin::export!(Loud: Lifecycle, Frames);
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! export {
    ($plugin:ident: $($hook:ident),+ $(,)?) => {
        $($crate::__export_hook!($plugin $hook);)+
    };
}

// Natively the exports would only get into the way: their names are no names for a linker's version script. What is
// left is the check that the trait is there.
#[doc(hidden)]
#[macro_export]
macro_rules! __export_hook {
    ($plugin:ident Lifecycle) => { $crate::__export_hook!($plugin Lifecycle lifecycle_hook); };
    ($plugin:ident Frames) => { $crate::__export_hook!($plugin Frames frames_hook); };
    ($plugin:ident Responses) => { $crate::__export_hook!($plugin Responses responses_hook); };
    ($plugin:ident Pushes) => { $crate::__export_hook!($plugin Pushes pushes_hook); };
    ($plugin:ident Handshakes) => { $crate::__export_hook!($plugin Handshakes handshakes_hook); };
    ($plugin:ident Closings) => { $crate::__export_hook!($plugin Closings closings_hook); };
    ($plugin:ident Timers) => { $crate::__export_hook!($plugin Timers timers_hook); };
    ($plugin:ident Schedules) => { $crate::__export_hook!($plugin Schedules schedules_hook); };
    ($plugin:ident Reports) => { $crate::__export_hook!($plugin Reports reports_hook); };
    ($plugin:ident $hook:ident $world:ident) => {
        #[cfg(target_arch = "wasm32")]
        #[allow(unsafe_code)]
        const _: () = {
            $crate::__private::$world::export!($plugin with_types_in $crate::__private::$world);
        };
        #[cfg(not(target_arch = "wasm32"))]
        const _: () = {
            const fn check<T: $crate::$hook>() {}
            check::<$plugin>();
        };
    };
    ($plugin:ident $other:ident) => {
        ::core::compile_error!(::core::concat!(
            "`", ::core::stringify!($other),
            "` is no hook; the hooks are Lifecycle, Frames, Responses, Pushes, Handshakes, Closings, Timers, ",
            "Schedules and Reports"
        ));
    };
}
