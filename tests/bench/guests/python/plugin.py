"""Replies with each message as it is, or with the setting `act = "next"` hands it on. The same in each language."""

from wit_world import exports
from wit_world.exports.lifecycle import Interest
from wit_world.imports.types import Action_Next, Action_Reply

hands_on = False


class Lifecycle(exports.Lifecycle):
    def configure(self, settings):
        global hands_on
        hands_on = ("act", "next") in settings
        return Interest(facts=[], paths=[], others=[])


class Frames(exports.Frames):
    def on_frame(self, connection, message):
        return [Action_Next(None) if hands_on else Action_Reply(message)]
