"""The numbers of a night, and whether they are like those of the nights before.

read -> estimate -> rows of `night_measures`;  levels, weekdays, changes, dates -> judge -> rows of `night_changes`
"""
