"""What napari is told of the plugin, read as napari reads it; napari itself is not needed."""

from importlib.metadata import distribution, entry_points
from importlib.resources import files

from npe2 import PluginManifest


def test_the_manifest_is_found_through_the_entry_point_and_is_valid() -> None:
    (found,) = entry_points(group="napari.manifest", name="refocus-live")
    assert found.value == "refocus.view:napari.yaml"
    manifest = PluginManifest.from_distribution("refocus-live")
    assert manifest.name == distribution("refocus-live").metadata["Name"]
    assert manifest.display_name == "ReFocus live"


def test_every_command_has_its_widget_and_its_place_in_a_module() -> None:
    manifest = PluginManifest.from_distribution("refocus-live")
    commands = {command.id: command.python_name for command in manifest.contributions.commands}
    assert [widget.command for widget in manifest.contributions.widgets] == list(commands)
    for place in commands.values():
        module, name = str(place).split(":")
        package, file = module.rsplit(".", 1)
        # not imported: that takes Qt
        assert f"\nclass {name}(" in (files(package) / f"{file}.py").read_text(encoding="utf-8")
