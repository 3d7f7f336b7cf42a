"""Draws values and events for people and programs; decides nothing."""
