"""One file per foreign framework, each thin: importers, exporters, drop-ins. Loads none of the frameworks."""
