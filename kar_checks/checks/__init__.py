"""The checks, one folder per topic: data, a trial that measures, a judge that is pure."""
